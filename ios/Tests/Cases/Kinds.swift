// The kinds of cases: what each does with the library.
import Foundation
import PocketMuse
import os

#if canImport(CoreGraphics)
import CoreGraphics
#endif

typealias Kind = @Sendable (World, JSON) async throws -> Void

/// By the name that the table has for them.
let kinds: [String: Kind] = [
    "open": open,
    "pixels": pixels,
    "progress": progress,
    "previews": previews,
    "slow": slow,
    "paused": paused,
    "files": files,
    "log": log,
    "cancel": cancel,
    "error": error,
    "closed": closed,
    "capabilities": capabilities,
    "plan": plan,
    "warm": warm,
    "trimmed": trimmed,
    "many-threads": manyThreads,
    "two-jobs": twoJobs,
    "close-during": closeDuring,
    "listener-throws": listenerThrows,
    "listener-blocks": listenerBlocks,
    "listener-calls-back": listenerCallsBack,
    "listener-closes": listenerCloses,
    "resume": resume,
    "growth": growth,
    "readme": readme,
].merging(packageKinds) { first, _ in first }.merging(doctorKinds) { first, _ in first }

extension World {
    func generator() throws -> Generator {
        try Generator(package: package, options: Options(library: library))
    }
}

/// Something that threads and tasks wait for: given once, taken often.
final class Later<T: Sendable>: @unchecked Sendable {
    private let changed = NSCondition()
    private var value: T?
    private var takers: [CheckedContinuation<T, Never>] = []

    func give(_ value: T) {
        changed.lock()
        let takers = self.value == nil ? self.takers : []
        if self.value == nil { self.value = value }
        self.takers = []
        changed.broadcast()
        changed.unlock()
        takers.forEach { $0.resume(returning: value) }
    }

    var isGiven: Bool {
        changed.withLock { value != nil }
    }

    /// Blocks the thread.
    func wait() -> T {
        changed.lock()
        defer { changed.unlock() }
        while true {
            if let value { return value }
            changed.wait()
        }
    }

    func take() async -> T {
        await withCheckedContinuation { taker in
            let value = changed.withLock {
                if self.value == nil { takers.append(taker) }
                return self.value
            }
            if let value { taker.resume(returning: value) }
        }
    }
}

/// What several threads add to.
final class Shared<T: Sendable>: @unchecked Sendable {
    private let lock = NSLock()
    private var inside: T

    init(_ value: T) {
        inside = value
    }

    var value: T {
        lock.withLock { inside }
    }

    @discardableResult
    func change<R>(_ body: (inout T) throws -> R) rethrows -> R {
        try lock.withLock { try body(&inside) }
    }
}

/// A listener that does what it is given to do.
final class Ear: Listener {
    let outcome = Later<Outcome>()
    let threads = Shared<Set<UInt>>([])
    private let onPreview: @Sendable (Pixels) throws -> Void
    private let onProgress: @Sendable (JobProgress) throws -> Void
    private let onEnd: @Sendable () throws -> Void

    init(
        onEnd: @escaping @Sendable () throws -> Void = {},
        onPreview: @escaping @Sendable (Pixels) throws -> Void = { _ in },
        onProgress: @escaping @Sendable (JobProgress) throws -> Void = { _ in }
    ) {
        self.onEnd = onEnd
        self.onPreview = onPreview
        self.onProgress = onProgress
    }

    func progress(progress: JobProgress) throws {
        here()
        try onProgress(progress)
    }

    func preview(image: Pixels) throws {
        here()
        try onPreview(image)
    }

    func frame(frame: UInt32, image: GeneratedImage) throws {
        here()
    }

    func ended(outcome: Outcome) throws {
        here()
        self.outcome.give(outcome)
        try onEnd()
    }

    private func here() {
        threads.change { _ = $0.insert(UInt(pthread_self())) }
    }

    func images() async throws -> [GeneratedImage] {
        switch await outcome.take() {
        case .finished(let images, _, _): return images
        case .failed(let error): throw error
        }
    }
}

/// The error that is thrown, of this type.
func thrown<E: Error>(_ type: E.Type, _ run: () async throws -> Void) async throws -> E {
    do {
        try await run()
    } catch let error as E {
        return error
    } catch {
        throw Failure("expected \(E.self), found \(error)")
    }
    throw Failure("expected \(E.self), found no error")
}

/// The name of an error's case, without its values.
func variant(_ error: PocketMuseError) -> String? {
    String(describing: error).prefix { $0 != "(" }.split(separator: ".").last.map(String.init)
}

func expectThrown(_ expected: PocketMuseError, _ run: () async throws -> Void) async throws {
    try expect(expected, try await thrown(PocketMuseError.self, run))
}

extension JobProgress {
    var step: UInt32? {
        if case .step(let step, _) = phase { step } else { nil }
    }
}

extension Event {
    var phase: Phase? {
        if case .progress(let progress) = self { progress.phase } else { nil }
    }
}

@Sendable private func open(_ world: World, _ from: JSON) async throws {
    let generator = try world.generator()
    try check(generator.plan(Request()) > 1_000_000, "an image takes memory")
    try generator.close()
}

@Sendable private func capabilities(_ world: World, _ from: JSON) async throws {
    let generator = try world.generator()
    defer { try? generator.close() }
    let can = try generator.capabilities()
    let names: [Flavour: String] = [
        .int8: "int8", .int4: "int4", .f32: "f32", .f16: "f16", .qdq: "qdq",
    ]
    let found: JSON = [
        "model": can.model, "flavours": can.flavours.map { names[$0] },
        "flavour": names[can.flavour] as Any, "size": can.size, "size_multiple": can.sizeMultiple,
        "max_size": can.maxSize, "edit": can.edit, "preview": can.preview, "words": can.words,
    ]
    try expect(try world.capabilities() as NSDictionary, found as NSDictionary)
}

@Sendable private func plan(_ world: World, _ from: JSON) async throws {
    let options = Options(
        threads: try number(from, "threads"), library: try world.library,
        memory: UInt64(try number(from, "memory")))
    let generator = try Generator(package: world.package, options: options)
    defer { try? generator.close() }
    try expect(try world.plan(from), generator.plan(try world.work(from)))
    if try string(from, "work") == "generate" {
        try expect(try world.plan(from), generator.plan(try world.request(from)))
    }
}

/// How often a network is loaded for the work of a case, which makes the images that it should.
private func loads(_ world: World, _ from: JSON, _ generator: Generator) async throws -> Int {
    var loads = 0
    for try await event in generator.events(try world.work(from)) {
        if case .loading = event.phase { loads += 1 }
        if case .finished(let finished) = event { try world.check(from, finished.images) }
    }
    return loads
}

@Sendable private func warm(_ world: World, _ from: JSON) async throws {
    let generator = try world.generator()
    defer { try? generator.close() }
    try await generator.warm(try world.request(from))
    try expect(0, try await loads(world, from, generator))
    try check(generator.trim() > 1_000_000, "much was held")
    try expect(0, try generator.trim())
    try check(try await loads(world, from, generator) >= 4, "all is loaded again")
}

@Sendable private func trimmed(_ world: World, _ from: JSON) async throws {
    let generator = try world.generator()
    defer { try? generator.close() }
    let job = Later<Job>()
    let ear = Ear(onProgress: { progress in
        if progress.step == 1 { job.wait().trim() }
        if progress.step == 2 { try generator.trim() }
    })
    job.give(try generator.start(try world.work(from), previews: .no, listener: ear))
    try world.check(from, try await ear.images())
    try expect(0, try generator.trim())
}

@Sendable private func manyThreads(_ world: World, _ from: JSON) async throws {
    let generator = try world.generator()
    defer { try? generator.close() }
    let (can, plan) = (try generator.capabilities(), try generator.plan(Request()))
    let work = try world.work(from)
    let made = Shared<[GeneratedImage]>([])
    try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<(try number(from, "threads")) {
            group.addTask {
                for _ in 0..<20 {
                    try expect(can, generator.capabilities())
                    try expect(plan, generator.plan(Request()))
                    try generator.trim()
                }
                let images = try await generator.run(work).images
                made.change { $0 += images }
            }
        }
        try await group.waitForAll()
    }
    try expect(Int(try number(from, "threads")), made.value.count)
    for image in made.value { try world.check(from, [image]) }
}

@Sendable private func pixels(_ world: World, _ from: JSON) async throws {
    let generator = try world.generator()
    defer { try? generator.close() }
    var images: [GeneratedImage] = []
    for try await event in generator.events(try world.work(from)) {
        switch event {
        case .frame(let frame, let image):
            try expect(images.count, frame)
            images.append(image)
        case .finished(let finished): images += finished.images
        default: break
        }
    }
    try world.check(from, images)
}

@Sendable private func progress(_ world: World, _ from: JSON) async throws {
    let generator = try world.generator()
    defer { try? generator.close() }
    let seen = Shared<[JobProgress]>([])
    let ear = Ear(onProgress: { progress in seen.change { $0.append(progress) } })
    _ = try generator.start(
        .generate(request: try world.request(from)), previews: .no, listener: ear)
    _ = try await ear.images()
    let shares = seen.value.map(\.share)
    try expect(shares.sorted(), shares)
    try expect(1, shares.last)
    try expect(Array(0..<8), unique(seen.value.compactMap(\.step)))
    try expect(1, ear.threads.value.count)
    try check(!ear.threads.value.contains(UInt(pthread_self())), "a job has its own thread")
}

private func unique(_ steps: [UInt32]) -> [UInt32] {
    steps.reduce(into: []) { if $0.last != $1 { $0.append($1) } }
}

@Sendable private func previews(_ world: World, _ from: JSON) async throws {
    let generator = try world.generator()
    defer { try? generator.close() }
    for (previews, side) in [(Previews.whole, UInt32(128)), (.small, 64)] {
        let seen = Shared<[Pixels]>([])
        let ear = Ear(onPreview: { image in seen.change { $0.append(image) } })
        _ = try generator.start(
            .generate(request: try world.request(from)), previews: previews, listener: ear)
        _ = try await ear.images()
        try expect(6, seen.value.count)
        for image in seen.value {
            try expect([side, side], [image.width, image.height])
            try expect(4 * Int(side * side), image.bytes.count)
        }
    }
}

@Sendable private func slow(_ world: World, _ from: JSON) async throws {
    let generator = try world.generator()
    defer { try? generator.close() }
    var steps: [UInt32] = []
    var previews = 0
    // Whoever gives way at every event lets the job run ahead as far as it may.
    for try await event in generator.events(try world.request(from)) {
        await Task.yield()
        if case .preview = event { previews += 1 }
        if case .step(let step, _) = event.phase { steps.append(step) }
    }
    try expect(Array(0..<40), unique(steps))
    try check((1...40).contains(previews), "there are 1 to 40 previews, not \(previews)")
}

@Sendable private func paused(_ world: World, _ from: JSON) async throws {
    let generator = try world.generator()
    defer { try? generator.close() }
    let (job, halts) = (Later<Job>(), Shared(0))
    let ear = Ear(onProgress: { progress in
        guard let step = progress.step else { return }
        let job = job.wait()
        job.pause()
        job.setThreads(threads: step % 2 + 1)
        halts.change { $0 += 1 }
        job.goOn()
    })
    job.give(try generator.start(try world.work(from), previews: .no, listener: ear))
    try world.check(from, try await ear.images())
    try check(halts.value >= 8, "it halted at every step")
}

@Sendable private func files(_ world: World, _ from: JSON) async throws {
    let generator = try world.generator()
    defer { try? generator.close() }
    let request = try world.request(from)
    let image = try await generator.generate(request)
    let rgba = try image.rgba()
    for format in [ImageFormat.png, .webp] {
        try check(decodeImage(bytes: image.encode(format: format)).bytes == rgba, "it is exact")
    }
    try expect(rgba.count, decodeImage(bytes: image.encode(format: .jpeg)).bytes.count)
    try expect(request.prompt, image.request().prompt)
    let row = 4 * Int(image.width())
    #if canImport(CoreGraphics)
    let apple = try image.cgImage()
    try expect([Int(image.width()), Int(image.height())], [apple.width, apple.height])
    try expect([8, 32, row], [apple.bitsPerComponent, apple.bitsPerPixel, apple.bytesPerRow])
    try expect(CGImageAlphaInfo.noneSkipLast.rawValue, apple.bitmapInfo.rawValue)
    try expect(CGColorSpace.sRGB, apple.colorSpace?.name)
    try check(apple.dataProvider?.data as Data? == rgba, "the pixels are the image's")
    #endif
    let stride = row + 12
    let wide = try image.rgbaWithStride(stride: UInt32(stride))
    for y in 0..<Int(image.height()) {
        let found = wide.dropFirst(y * stride).prefix(row)
        try check(found.elementsEqual(rgba.dropFirst(y * row).prefix(row)), "row \(y) is the same")
    }
    let error = try await thrown(PocketMuseError.self) {
        _ = try image.rgbaWithStride(stride: UInt32(row - 1))
    }
    guard case .BadRequest("stride", _) = error else { throw error }
    let damaged = try await thrown(PocketMuseError.self) {
        _ = try decodeImage(bytes: Data([1, 2, 3]))
    }
    guard case .BadRequest = damaged else { throw damaged }
}

private final class Lines: LogSink {
    let all = Shared<[String]>([])

    func log(level: LogLevel, target: String, line: String) throws {
        all.change { $0.append(line) }
    }
}

@Sendable private func log(_ world: World, _ from: JSON) async throws {
    let lines = Lines()
    try setLogSink(sink: lines, level: .trace)
    defer { try? setLogSink(sink: nil, level: .warn) }
    let generator = try world.generator()
    defer { try? generator.close() }
    _ = try await generator.generate(try world.request(from))
    try expect([], lines.all.value.filter { $0.contains("Xanadu") })
    try check(!lines.all.value.isEmpty, "something was logged")

    // The system has the lines that nobody takes.
    try setLogSink(sink: nil, level: .warn)
    let deaf = Ear(onEnd: { throw Failure("nobody listens") })
    _ = try generator.start(
        .generate(request: try world.request(from)), previews: .no, listener: deaf)
    _ = try await deaf.images()
    try generator.close()
    let warning = logged().last
    try expect(.default, warning?.0)
    try check(warning?.1.contains("a listener failed") == true, "it was logged: \(logged())")
}

@Sendable private func cancel(_ world: World, _ from: JSON) async throws {
    let generator = try world.generator()
    defer { try? generator.close() }
    let work = try world.work(from)
    switch try string(from, "when") {
    case "before":
        let begin = Later<Void>()
        let image = Task {
            await begin.take()
            return try await generator.run(work)
        }
        image.cancel()
        begin.give(())
        _ = try await thrown(CancellationError.self) { _ = try await image.value }
    case let moment where ["checking", "loading", "step", "decoding"].contains(moment):
        let reached = Later<Void>()
        let image = Task {
            for try await event in generator.events(work) {
                switch (moment, event.phase) {
                case ("checking", .checking), ("loading", .loading), ("step", .step),
                    ("decoding", .decoding):
                    reached.give(())
                default: break
                }
            }
            try Task.checkCancellation()
        }
        await reached.take()
        image.cancel()
        _ = try await thrown(CancellationError.self) { _ = try await image.value }
    case "after":
        let ear = Ear()
        let job = try generator.start(work, previews: .no, listener: ear)
        try world.check(from, try await ear.images())
        job.cancel()
    case let moment where ["waiting", "paused"].contains(moment):
        let (job, halted) = (Later<Job>(), Later<Void>())
        let ear = Ear(onProgress: { progress in
            if progress.step == 1 && !halted.isGiven {  // it is told again after
                job.wait().pause()
                halted.give(())
            }
        })
        let first = try generator.start(work, previews: .no, listener: ear)
        job.give(first)
        await halted.take()
        if moment == "paused" {
            first.cancel()
            try await expectThrown(.Cancelled) { _ = try await ear.images() }
        } else {
            let waits = Later<Void>()
            let other = Ear(onProgress: { progress in
                if progress.phase == .waiting { waits.give(()) }
            })
            let second = try generator.start(work, previews: .no, listener: other)
            await waits.take()
            second.cancel()
            try await expectThrown(.Cancelled) { _ = try await other.images() }
            first.goOn()
            try world.check(from, try await ear.images())
        }
    case let moment:
        throw Failure("unknown moment: \(moment)")
    }
    try world.check(from, try await generator.run(work).images)
}

/// Who computes the steps, if a case says so.
private func providers(_ from: JSON) throws -> Providers? {
    guard from["provider"] != nil else { return nil }
    let known: [String: Provider] = ["nnapi": .nnapi, "open_vino": .openVino]
    guard let provider = known[try string(from, "provider")] else {
        throw Failure("unknown provider")
    }
    let options = from["options"] as? [String: String] ?? [:]
    return Providers(stages: [.step: provider], libraries: [:], options: [provider: options])
}

@Sendable private func error(_ world: World, _ from: JSON) async throws {
    let memory = (from["memory"] as? NSNumber)?.uint64Value
    let options = Options(
        flavour: from["flavour"] as? String == "f32" ? .f32 : nil,
        threads: (from["threads"] as? NSNumber)?.uint32Value,
        library: try from["library"] as? String ?? world.library,
        memory: memory,
        providers: try providers(from))
    let name = try from["package"] as? String ?? world.package.lastPathComponent
    let work: Work =
        switch from["work"] as? String {
        case "resume":
            .resume(
                state: try (from["state"] as? String).map { name in
                    try Data(contentsOf: world.folder.appendingPathComponent("\(name).state"))
                } ?? Data([1, 2, 3]))
        case "edit": try world.work(from)
        default: .generate(request: try world.request(from))
        }
    let error = try await thrown(PocketMuseError.self) {
        let package = world.folder.appendingPathComponent(name)
        let generator = try Generator(package: package, options: options)
        defer { try? generator.close() }
        _ = try await generator.run(work)
    }
    try expect(try string(from, "error"), variant(error))
    if case .BadRequest(let field, _) = error { try expect(try string(from, "field"), field) }
    if case .NotEnoughMemory(let needed, let available) = error {
        try check(needed > available && available == memory, "both numbers are right")
    }
}

@Sendable private func closed(_ world: World, _ from: JSON) async throws {
    let generator = try world.generator()
    try generator.close()
    try generator.close()
    try await expectThrown(.Closed) { _ = try generator.plan(Request()) }
    try await expectThrown(.Closed) { _ = try await generator.generate(Request()) }
    try await expectThrown(.Closed) { for try await _ in generator.events(Request()) {} }
}

@Sendable private func twoJobs(_ world: World, _ from: JSON) async throws {
    let generator = try world.generator()
    defer { try? generator.close() }
    let work = try world.work(from)
    async let first = generator.run(work)
    async let second = generator.run(work)
    for finished in try await [first, second] { try world.check(from, finished.images) }
}

@Sendable private func closeDuring(_ world: World, _ from: JSON) async throws {
    let generator = try world.generator()
    let runs = Later<Void>()
    let ear = Ear(onProgress: { if $0.step == 2 { runs.give(()) } })
    _ = try generator.start(
        .generate(request: try world.request(from)), previews: .no, listener: ear)
    await runs.take()
    try generator.close()
    try check(ear.outcome.isGiven, "close waits for the job")
    try await expectThrown(.Closed) { _ = try await ear.images() }
    try await expectThrown(.Closed) { _ = try generator.plan(Request()) }
}

@Sendable private func listenerThrows(_ world: World, _ from: JSON) async throws {
    let generator = try world.generator()
    defer { try? generator.close() }
    let work = try world.work(from)
    let full = PocketMuseError.NoSpace(needed: 3, available: 2)
    let known = Ear(onProgress: { if $0.step == 2 { throw full } })
    _ = try generator.start(work, previews: .no, listener: known)
    try await expectThrown(full) { _ = try await known.images() }

    let unknown = Ear(onPreview: { _ in throw Failure("a fault of the app") })
    _ = try generator.start(work, previews: .small, listener: unknown)
    let error = try await thrown(PocketMuseError.self) { _ = try await unknown.images() }
    guard case .Internal(let reason) = error else { throw error }
    try check(reason.contains("a fault of the app"), "\(reason) says which")

    // Who takes events and throws stops the job.
    _ = try await thrown(Failure.self) {
        for try await event in generator.events(work) {
            if case .preview = event { throw Failure("in the loop") }
        }
    }
    try world.check(from, try await generator.run(work).images)
}

@Sendable private func listenerBlocks(_ world: World, _ from: JSON) async throws {
    let generator = try world.generator()
    defer { try? generator.close() }
    let (blocked, free) = (Later<Void>(), Later<Void>())
    let steps = Shared<[UInt32]>([])
    let ear = Ear(onProgress: { progress in
        if let step = progress.step { steps.change { $0.append(step) } }
        if progress.step == 2 {
            blocked.give(())
            free.wait()
        }
    })
    _ = try generator.start(try world.work(from), previews: .no, listener: ear)
    await blocked.take()
    try check(!ear.outcome.isGiven, "the job waits for its listener")
    free.give(())
    try world.check(from, try await ear.images())
    try expect(Array(0..<5), unique(steps.value))
}

@Sendable private func listenerCallsBack(_ world: World, _ from: JSON) async throws {
    let generator = try world.generator()
    defer { try? generator.close() }
    let work = try world.work(from)
    let (second, asked) = (Ear(), Shared(false))
    let first = Ear(onProgress: { progress in
        let isFirst = progress.step == 1 && !asked.value
        guard isFirst else { return }
        asked.change { $0 = true }
        try check(generator.plan(Request()) > 0, "an image takes memory")
        _ = try generator.start(work, previews: .no, listener: second)
    })
    _ = try generator.start(work, previews: .no, listener: first)
    try world.check(from, try await first.images())
    try world.check(from, try await second.images())
}

@Sendable private func listenerCloses(_ world: World, _ from: JSON) async throws {
    let generator = try world.generator()
    let ear = Ear(onProgress: { if $0.step == 1 { try generator.close() } })
    _ = try generator.start(
        .generate(request: try world.request(from)), previews: .no, listener: ear)
    try await expectThrown(.Closed) { _ = try await ear.images() }
}

/// What a job of another process writes.
private func stateFile(_ world: World, _ name: String) -> URL {
    world.folder.appendingPathComponent("\(name).state")
}

@Sendable private func resume(_ world: World, _ from: JSON) async throws {
    let name = try string(from, "name")
    try? FileManager.default.removeItem(at: stateFile(world, name))
    let child = Process()
    child.executableURL = URL(fileURLWithPath: CommandLine.arguments[0])
    child.arguments = [world.table.path, world.folder.path, "child", name]
    try child.run()
    child.waitUntilExit()
    try check(child.terminationReason == .uncaughtSignal, "it was killed")
    let generator = try world.generator()
    defer { try? generator.close() }
    let state = try Data(contentsOf: stateFile(world, name))
    var frames = 0
    for try await event in generator.events(.resume(state: state)) {
        switch event {
        case .frame(let frame, let image):
            try world.check(from, frame, image)
            frames += 1
        case .finished(let finished): if frames == 0 { try world.check(from, finished.images) }
        default: break
        }
    }
}

/// What a process does that a case starts.
func child(_ world: World, _ arguments: [String]) async throws {
    let name = arguments[0]
    if let work = packageChildren[name] {
        try await work(world, Array(arguments[1...]))
    } else if name == "measure" {
        try await measure(world)
    } else {
        try await killed(world, name)
    }
}

/// Writes its state after a step, and is killed while it runs.
private func killed(_ world: World, _ name: String) async throws {
    let from = try some(world.cases().first { $0["name"] as? String == name }, "a case")
    let after = try number(from, "after")
    let generator = try world.generator()
    var (job, steps, last): (Job?, UInt32, UInt32?) = (nil, 0, nil)
    for try await event in generator.events(try world.work(from)) {
        if case .started(let started) = event { job = started }
        guard case .step(let step, _) = event.phase, step != last else { continue }
        last = step
        if steps == after {
            let state = try some(try job?.state(), "a state")
            try state.write(to: stateFile(world, name))
            kill(getpid(), SIGKILL)
        }
        steps += 1
    }
}

@Sendable private func growth(_ world: World, _ from: JSON) async throws {
    func count(_ folder: String) throws -> Int {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/self/\(folder)").count
    }
    func resident() throws -> Int {
        let statm = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8)
        return try some(Int(statm.split(separator: " ")[1]), "pages") * 4096
    }
    let generator = try world.generator()
    defer { try? generator.close() }
    let work = try world.work(from)
    func make(_ images: UInt32) async throws {
        for _ in 0..<images { try world.check(from, try await generator.run(work).images) }
    }
    try await make(10)
    let (files, threads, bytes) = (try count("fd"), try count("task"), try resident())
    try await make(try number(from, "images"))
    try check(try count("fd") <= files, "no file stays open")
    // The threads of tasks come and go.
    try check(try count("task") <= threads + 4, "no thread stays")
    let grown = try resident() - bytes
    try check(grown < 8 << 20, "the memory is as it was, not \(grown) bytes more")
}

@Sendable private func readme(_ world: World, _ from: JSON) async throws {
    let files = FileManager.default
    let folder = files.temporaryDirectory.appendingPathComponent("readme-\(getpid())")
    try files.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? files.removeItem(at: folder) }
    let package = folder.appendingPathComponent("amused-512.package")
    try files.copyItem(at: try world.package, to: package)
    let program = Process()
    let cases = URL(fileURLWithPath: CommandLine.arguments[0])
    program.executableURL = cases.deletingLastPathComponent().appendingPathComponent("Readme")
    program.currentDirectoryURL = folder
    program.environment = ["ORT_DYLIB_PATH": try world.library]
    let output = Pipe()
    program.standardOutput = output
    try program.run()
    let said = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    program.waitUntilExit()
    try check(program.terminationStatus == 0 && said.contains("100 %"), "it ends well: \(said)")
    let png = try Data(contentsOf: folder.appendingPathComponent("storm.png"))
    try expect(128, decodeImage(bytes: png).width)
}

/// Prints the times of images as the example `expected` does.
private func measure(_ world: World) async throws {
    let generator = try world.generator()
    defer { try? generator.close() }
    for round in 0..<40 {
        let begin = DispatchTime.now().uptimeNanoseconds
        _ = try await generator.generate(Request(prompt: "a red lighthouse")).rgba()
        if round >= 20 { say("image \((DispatchTime.now().uptimeNanoseconds - begin) / 1000)") }
    }
}
