// The kinds of cases about packages: archives that are imported, and packages that change while they
// are open.
import Foundation
import PocketMuse

/// By the name that the table has for them.
let packageKinds: [String: Kind] = [
    "import": importWhole,
    "import-part": importPart,
    "import-stopped": importStopped,
    "import-killed": importKilled,
    "import-throws": importThrows,
    "import-twice": importTwice,
    "prepare-twice": prepareTwice,
    "import-error": importError,
    "import-full": importFull,
    "removed": removed,
    "cut-open": cutOpen,
    "forbidden": forbidden,
]

/// What a process does that one of these cases starts.
let packageChildren: [String: @Sendable (World, [String]) async throws -> Void] = [
    "import": { world, arguments in
        try await world.importer(URL(fileURLWithPath: arguments[0])).run()
    },
    "import-killed": { world, arguments in
        try await world.importer(URL(fileURLWithPath: arguments[0])).run { progress in
            if progress.isLate { kill(getpid(), SIGKILL) }
        }
    },
    "import-full": fillDisk,
    "open-forbidden": openForbidden,
    "prepare": { world, arguments in
        let from = try some(
            world.cases().first { $0["name"] as? String == arguments[0] }, "a case")
        let options = Options(library: try world.library, prepared: arguments[1])
        let generator = try Generator(package: world.package, options: options)
        defer { try? generator.close() }
        try world.check(from, try await generator.run(try world.work(from)).images)
    },
]

extension World {
    fileprivate func importer(
        _ target: URL, _ options: ImportOptions = ImportOptions()
    ) -> Importer {
        Importer(archive: archive("whole"), folder: target, options: options)
    }

    /// A process of the tests that is started, after the words of `launcher`.
    fileprivate func process(launcher: [String] = [], _ arguments: String...) throws -> Process {
        let process = Process()
        let all = launcher + [CommandLine.arguments[0], table.path, folder.path, "child"] + arguments
        process.executableURL = URL(fileURLWithPath: all[0])
        process.arguments = Array(all[1...])
        try process.run()
        return process
    }
}

extension ImportProgress {
    fileprivate var isLate: Bool {
        4 * doneBytes > 3 * totalBytes
    }
}

private func exists(_ url: URL) -> Bool {
    FileManager.default.fileExists(atPath: url.path)
}

private func names(_ folder: URL) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
}

/// Runs something with an empty folder.
func inFolder(_ run: (URL) async throws -> Void) async throws {
    let files = FileManager.default
    let name = "packages-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
    let folder = files.temporaryDirectory.appendingPathComponent(name)
    try files.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? files.removeItem(at: folder) }
    try await run(folder)
}

/// Checks that a package makes a case's images; returns whether files were checked for that.
private func works(
    _ world: World, _ from: JSON, _ package: URL, prepared: URL? = nil
) async throws -> Bool {
    var checks = false
    let options = Options(library: try world.library, prepared: prepared?.path)
    let generator = try Generator(package: package, options: options)
    defer { try? generator.close() }
    for try await event in generator.events(try world.work(from)) {
        if case .checking = event.phase { checks = true }
        if case .finished(let finished) = event { try world.check(from, finished.images) }
    }
    return checks
}

@Sendable private func importWhole(_ world: World, _ from: JSON) async throws {
    try await inFolder { folder in
        let target = folder.appendingPathComponent("package")
        let prepared = folder.appendingPathComponent("prepared")
        let seen = Shared<[ImportProgress]>([])
        try await world.importer(target, ImportOptions(prepared: prepared.path)).run { progress in
            seen.change { $0.append(progress) }
        }
        let done = seen.value.map(\.doneBytes)
        try expect(done.sorted(), done)
        try expect(0, done.first)
        try expect(seen.value.last?.totalBytes, done.last)
        _ = try await works(world, from, target, prepared: prepared)

        // What is there already is left as it is.
        try await world.importer(target).run()
        try expect(["package", "prepared"], try names(folder))
    }
}

@Sendable private func importPart(_ world: World, _ from: JSON) async throws {
    try await inFolder { folder in
        let target = folder.appendingPathComponent("package")
        let options = ImportOptions(flavours: [.int8], withoutEncoder: true)
        try await world.importer(target, options).run()
        let generator = try Generator(
            package: target, options: Options(library: try world.library))
        defer { try? generator.close() }
        try expect(false, try generator.capabilities().edit)
        let pixels = Pixels(
            bytes: Data(count: 1024), width: 16, height: 16, stride: 64, alpha: .ignored)
        try await expectThrown(.Unsupported(what: "encoder")) {
            _ = try await generator.edit(Request(), source: Source(image: pixels))
        }
    }
}

/// Imports what is left, and checks that it is not all.
private func goesOn(_ world: World, _ target: URL) async throws {
    try check(!exists(target), "nothing is in its place")
    let seen = Shared<[ImportProgress]>([])
    try await world.importer(target).run { progress in seen.change { $0.append(progress) } }
    // Before it looks what is there it has none.
    let begin = try some(seen.value.first { $0.doneBytes > 0 }, "progress")
    try check(begin.doneBytes > 1_500_000, "it goes on, at \(begin.doneBytes)")
    try check(exists(target), "it is in its place")
}

@Sendable private func importStopped(_ world: World, _ from: JSON) async throws {
    try await inFolder { folder in
        let target = folder.appendingPathComponent("package")
        let running = Later<Task<Void, any Error>>()
        running.give(
            Task {
                try await world.importer(target).run { progress in
                    // The handler of a task's cancellation has run when `cancel` returns.
                    if progress.isLate { running.wait().cancel() }
                }
            })
        _ = try await thrown(CancellationError.self) { try await running.take().value }
        try await goesOn(world, target)
    }
}

@Sendable private func importKilled(_ world: World, _ from: JSON) async throws {
    try await inFolder { folder in
        let target = folder.appendingPathComponent("package")
        let child = try world.process("import-killed", target.path)
        child.waitUntilExit()
        try check(child.terminationReason == .uncaughtSignal, "it was killed")
        try await goesOn(world, target)
    }
}

@Sendable private func importThrows(_ world: World, _ from: JSON) async throws {
    try await inFolder { folder in
        let importer = world.importer(folder.appendingPathComponent("package"))
        let failure = try await thrown(Failure.self) {
            try await importer.run { if $0.isLate { throw Failure("in the app") } }
        }
        try expect("in the app", failure.description)
        try check(!(try names(folder)).isEmpty, "something is left for the next import")
        try importer.discard()
        try expect([], try names(folder))
    }
}

@Sendable private func importTwice(_ world: World, _ from: JSON) async throws {
    try await inFolder { folder in
        let target = folder.appendingPathComponent("package")
        let both = try (0..<2).map { _ in try world.process("import", target.path) }
        for child in both {
            child.waitUntilExit()
            try expect(0, child.terminationStatus)
        }
        try expect(["package"], try names(folder))
        try Generator(package: target, options: Options(library: try world.library)).close()
    }
}

@Sendable private func prepareTwice(_ world: World, _ from: JSON) async throws {
    try await inFolder { folder in
        let name = try string(from, "name")
        let both = try (0..<2).map { _ in try world.process("prepare", name, folder.path) }
        for child in both {
            child.waitUntilExit()
            try expect(0, child.terminationStatus)
        }
        // Without what is prepared, and with it.
        try expect(true, try await works(world, from, try world.package))
        try expect(false, try await works(world, from, try world.package, prepared: folder))
    }
}

@Sendable private func importError(_ world: World, _ from: JSON) async throws {
    try await inFolder { folder in
        let inner = folder.appendingPathComponent("inner")
        let target = inner.appendingPathComponent("package")
        try FileManager.default.createDirectory(at: inner, withIntermediateDirectories: true)
        let isTaken = from["taken"] != nil
        if isTaken { try Data("something else".utf8).write(to: target) }
        let flavours: [Flavour] = from["flavour"] as? String == "f32" ? [.f32] : []
        let importer = Importer(
            archive: world.archive(try string(from, "archive")), folder: target,
            options: ImportOptions(flavours: flavours))
        let error = try await thrown(PocketMuseError.self) { try await importer.run() }
        try expect(try string(from, "error"), variant(error))
        if case .NoSpace(let needed, let available) = error {
            try check(needed > available && available > 0, "both numbers are right")
        }
        try importer.discard()
        try expect(isTaken ? ["package"] : [], try names(inner))
        try expect(["inner"], try names(folder))  // nothing led out
    }
}

@Sendable private func importFull(_ world: World, _ from: JSON) async throws {
    let may = Process()
    may.executableURL = URL(fileURLWithPath: "/usr/bin/unshare")
    may.arguments = ["--mount", "true"]
    try may.run()
    may.waitUntilExit()
    guard may.terminationStatus == 0 else {
        say("no disk is filled: this system mounts none for us")
        return
    }
    try await inFolder { folder in
        let bytes = try Data(contentsOf: world.archive("whole")).count + 4 << 20
        let mount = "mount -t tmpfs -o size=\(bytes) tmpfs \"$0\" && exec \"$@\""
        let launcher = ["/usr/bin/unshare", "--mount", "sh", "-c", mount, folder.path]
        let child = try world.process(launcher: launcher, "import-full", folder.path)
        child.waitUntilExit()
        try expect(0, child.terminationStatus)
    }
}

/// Imports to a disk that has room, and fills it on the way.
@Sendable private func fillDisk(_ world: World, _ arguments: [String]) async throws {
    let folder = URL(fileURLWithPath: arguments[0])
    let (target, full) = (
        folder.appendingPathComponent("package"), folder.appendingPathComponent("full")
    )
    let isFull = Shared(false)
    let error = try await thrown(PocketMuseError.self) {
        try await world.importer(target).run { progress in
            guard progress.doneBytes > 0 && !isFull.value else { return }
            isFull.change { $0 = true }
            fill(full)
        }
    }
    guard case .NoSpace(let needed, let available) = error, isFull.value else { throw error }
    try check(needed > available, "both numbers are right")
    try check(!exists(target), "nothing is in its place")
    try FileManager.default.removeItem(at: full)
    try await world.importer(target).run()
    try check(exists(target), "with room it goes on")
}

private func fill(_ file: URL) {
    guard let out = fopen(file.path, "w") else { return }
    setvbuf(out, nil, _IONBF, 0)
    let block = [UInt8](repeating: 0, count: 4096)
    while fwrite(block, 1, block.count, out) == block.count {}
    fclose(out)
}

/// Runs something with a copy of the package, whose largest file comes along.
private func withCopy(
    _ world: World, _ run: (URL, URL) async throws -> Void
) async throws {
    try await inFolder { folder in
        let files = FileManager.default
        let copy = folder.appendingPathComponent("package")
        try files.copyItem(at: try world.package, to: copy)
        let sizes = try files.subpathsOfDirectory(atPath: copy.path).map { name in
            let path = copy.appendingPathComponent(name)
            let size = try files.attributesOfItem(atPath: path.path)[.size] as? NSNumber
            return (path, size?.intValue ?? 0)
        }
        try await run(copy, try some(sizes.max { $0.1 < $1.1 }, "a file").0)
    }
}

@Sendable private func removed(_ world: World, _ from: JSON) async throws {
    try await withCopy(world) { copy, _ in
        let generator = try Generator(package: copy, options: Options(library: try world.library))
        defer { try? generator.close() }
        let work = try world.work(from)
        try world.check(from, try await generator.run(work).images)
        // A job with all that it needs comes to its end, the next one does not begin.
        let ear = Ear(onProgress: {
            if $0.step == 0 { try? FileManager.default.removeItem(at: copy) }
        })
        _ = try generator.start(work, previews: .no, listener: ear)
        try world.check(from, try await ear.images())
        for _ in 0..<2 {
            let error = try await thrown(PocketMuseError.self) { _ = try await generator.run(work) }
            guard case .PackageDamaged = error else { throw error }
            try generator.trim()
        }
    }
}

@Sendable private func cutOpen(_ world: World, _ from: JSON) async throws {
    try await withCopy(world) { copy, largest in
        let generator = try Generator(package: copy, options: Options(library: try world.library))
        defer { try? generator.close() }
        let request = try world.request(from)
        _ = try await generator.generate(request)  // every file was checked now
        try generator.trim()
        let bytes = try Data(contentsOf: largest)
        try bytes.prefix(bytes.count / 2).write(to: largest)
        for _ in 0..<2 {
            let error = try await thrown(PocketMuseError.self) {
                _ = try await generator.generate(request)
            }
            try expect(try string(from, "error"), variant(error))
        }
    }
}

@Sendable private func forbidden(_ world: World, _ from: JSON) async throws {
    try await inFolder { folder in
        let (name, files) = ("manifest.json", FileManager.default)
        let manifest = folder.appendingPathComponent(name)
        try files.copyItem(at: try world.package.appendingPathComponent(name), to: manifest)
        try files.setAttributes([.posixPermissions: 0], ofItemAtPath: manifest.path)
        let child = try world.process("open-forbidden", folder.path)
        child.waitUntilExit()
        try expect(0, child.terminationStatus)
    }
}

/// Opens a package that nobody may read; root, who may read all, becomes somebody else first.
@Sendable private func openForbidden(_ world: World, _ arguments: [String]) async throws {
    if geteuid() == 0 { try expect(0, setuid(65534)) }
    let error = try await thrown(PocketMuseError.self) {
        _ = try Generator(package: URL(fileURLWithPath: arguments[0]))
    }
    guard case .Io(let reason) = error else { throw error }
    try check(reason.contains("ermission denied"), "it says why: \(reason)")
}
