import Foundation

/// Brings a package from its archive into its folder: written beside its place, every file checked
/// on the way, given its name when it is whole. An import that was stopped or killed is taken up
/// again by the next one of the same package to the same folder; while another process imports it
/// there, this one waits.
public struct Importer: Sendable {
    private let archive: URL
    private let folder: URL
    private let options: ImportOptions

    /// - Parameters:
    ///   - archive: The archive, or another package's folder.
    ///   - folder: Where the package will be; the folder around it is there already.
    ///   - options: What is taken of the archive.
    public init(archive: URL, folder: URL, options: ImportOptions = ImportOptions()) {
        (self.archive, self.folder, self.options) = (archive, folder, options)
    }

    /// Imports the package. Returns when it is in its place.
    ///
    /// - Parameter onProgress: Called on the import's own thread. What it throws ends the import.
    /// - Throws: ``PocketMuseError`` if it cannot be imported, nothing is in its place then;
    ///   `CancellationError` if the task is cancelled, as soon as the import has stopped.
    public func run(
        onProgress: @escaping @Sendable (ImportProgress) throws -> Void = { _ in }
    ) async throws {
        startLog()
        let told = Told(onProgress)
        try await told.end.value {
            let importer = try NativeImporter.start(
                archive: archive.path, target: folder.path, options: options, listener: told)
            return { importer.cancel() }
        }
    }

    /// Removes what imports to this folder that were stopped or killed have left beside it, unless
    /// one is still at work.
    public func discard() throws {
        try discardImport(target: folder.path)
    }
}

/// Told on the import's thread.
private final class Told: ImportListener {
    let end = Awaited<Void>()
    private let onProgress: @Sendable (ImportProgress) throws -> Void

    init(_ onProgress: @escaping @Sendable (ImportProgress) throws -> Void) {
        self.onProgress = onProgress
    }

    func progress(progress: ImportProgress) throws {
        try end.call { try onProgress(progress) }
    }

    func ended(error: PocketMuseError?) throws {
        end.end(error.map { .failure($0) } ?? .success(()))
    }
}
