// The kinds of cases about what other providers than the CPU do here.
import Foundation
import PocketMuse

/// By the name that the table has for them.
let doctorKinds: [String: Kind] = [
    "doctor": doctor,
    "doctor-proves": doctorProves,
    "doctor-cancelled": doctorCancelled,
    "doctor-throws": doctorThrows,
    "doctor-error": doctorError,
]

private let stages: Set<Stage> = [.textEncoder, .prologue, .step, .decoder, .encoder]

private func options(_ world: World, _ plugin: String, prepared: String? = nil) throws -> Options {
    let providers = Providers(stages: [:], libraries: [.openVino: plugin])
    return Options(library: try world.library, prepared: prepared, providers: providers)
}

/// With OpenVINO, if it is here.
private func withOpenVino(_ world: World, _ run: (Options) async throws -> Void) async throws {
    guard let plugin = world.openVino else {
        say("skipped: a case of a doctor: there is no OpenVINO for this machine")
        return
    }
    try await inFolder { folder in
        try await run(try options(world, plugin, prepared: folder.path))
    }
}

@Sendable private func doctor(_ world: World, _ from: JSON) async throws {
    let own = Options(library: try world.library)
    let report = try await Doctor(package: world.package, options: own).run { _, _ in
        throw Failure("nothing is to be proved")
    }
    try check(report.good && report.stages.isEmpty && !report.version.isEmpty, "all is good")
    try expect(try world.build, report.machine.build)
    try check(report.machine.cores > 0 && !report.machine.library.isEmpty, "a machine is there")
    try expect(try string(world.capabilities(), "model"), report.package?.model)
    try expect(64, report.package?.digest.count)
    let here = Set(report.providers.filter(\.here).map(\.name))
    try check(here.isSuperset(of: [.cpu, .openVino, .qnn]), "these are here, not \(here)")
    try check(
        report.providers.allSatisfy { $0.library == nil && $0.devices.isEmpty }, "none is asked")
    try expect(nil, try await Doctor(options: own).run().package)
}

@Sendable private func doctorProves(_ world: World, _ from: JSON) async throws {
    try await withOpenVino(world) { options in
        let told = Shared<Set<Stage>>([])
        let first = try await Doctor(package: world.package, options: options).run { stage, by in
            try expect(.openVino, by)
            told.change { _ = $0.insert(stage) }
        }
        try expect(stages, told.value)
        try expect(stages, Set(first.stages.map(\.stage)))
        for stage in first.stages {
            try expect(.int8, stage.flavour)
            try check(!stage.sentence.isEmpty && !stage.reason.isEmpty, "it says why")
            try expect(stage.good, stage.advice == nil)
            guard stage.good else { continue }
            let times = [stage.loadMs, stage.runMs, stage.cpuLoadMs, stage.cpuRunMs]
            try check(times.allSatisfy { ($0 ?? 0) > 0 }, "it takes time, not \(times)")
            try check(
                stage.heldBytes != nil && stage.peakBytes != nil && stage.nodes != nil, "all is told")
        }
        // Its Scan is refused everywhere; the text encoder is near everywhere.
        func isGood(_ stage: Stage) -> Bool? { first.stages.first { $0.stage == stage }?.good }
        try expect(true, isGood(.textEncoder))
        try expect(false, isGood(.decoder))
        try expect(false, first.good)
        let provider = try some(first.providers.first { $0.name == .openVino }, "a provider")
        try check(provider.library != nil && !provider.devices.isEmpty, "it is told of")

        // What is known is not proved again, but with `again`.
        told.change { $0 = [] }
        let second = try await Doctor(package: world.package, options: options).run { stage, _ in
            told.change { _ = $0.insert(stage) }
        }
        try expect(first.stages.filter(\.good), second.stages.filter(\.good))
        try check(!told.value.contains(.textEncoder), "it is known")
        _ = try await Doctor(package: world.package, options: options, again: true).run {
            stage, _ in told.change { _ = $0.insert(stage) }
        }
        try expect(stages, told.value)
    }
}

@Sendable private func doctorCancelled(_ world: World, _ from: JSON) async throws {
    try await withOpenVino(world) { options in
        let (reached, told) = (Later<Void>(), Shared<Int>(0))
        let package = try world.package
        let report = Task {
            try await Doctor(package: package, options: options).run { _, _ in
                told.change { $0 += 1 }
                reached.give(())
            }
        }
        await reached.take()
        report.cancel()
        _ = try await thrown(CancellationError.self) { _ = try await report.value }
        try check(told.value < stages.count, "it stops, not after \(told.value)")
    }
}

@Sendable private func doctorThrows(_ world: World, _ from: JSON) async throws {
    try await withOpenVino(world) { options in
        let failure = try await thrown(Failure.self) {
            _ = try await Doctor(package: world.package, options: options).run { _, _ in
                throw Failure("the app's own")
            }
        }
        try expect("the app's own", failure.description)
    }
}

@Sendable private func doctorError(_ world: World, _ from: JSON) async throws {
    let own = try options(world, world.library)
    let error = try await thrown(PocketMuseError.self) {
        _ = try await Doctor(package: world.package, options: own).run()
    }
    guard case .BadRequest(let field, _) = error else { throw Failure("found \(error)") }
    try expect("provider_library: openvino", field)
    let none = try await thrown(PocketMuseError.self) {
        _ = try await Doctor(package: URL(fileURLWithPath: "/nowhere"), options: own).run()
    }
    guard case .Io = none else { throw Failure("found \(none)") }
}
