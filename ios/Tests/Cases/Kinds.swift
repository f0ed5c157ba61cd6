// The kinds of cases: what each does with the library.
import Foundation
import PocketMuse

typealias Kind = @Sendable (World, JSON) async throws -> Void

/// By the name that the table has for them.
let kinds: [String: Kind] = [
    "open": open,
    "pixels": pixels,
]

extension World {
    func generator() throws -> Generator {
        try Generator(package: package, options: Options(library: library))
    }
}

@Sendable private func open(_ world: World, _ from: JSON) async throws {
    let generator = try world.generator()
    try check(generator.plan(Request()) > 1_000_000, "an image takes memory")
    try generator.close()
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

/// What a case starts in a process of its own.
func child(_ world: World, _ arguments: [String]) async throws {
    throw Failure("unknown child: \(arguments)")
}
