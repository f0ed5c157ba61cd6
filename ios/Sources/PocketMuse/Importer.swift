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
        do {
            try await withTaskCancellationHandler {
                try await withCheckedThrowingContinuation { continuation in
                    told.begin(continuation) {
                        try NativeImporter.start(
                            archive: archive.path, target: folder.path, options: options,
                            listener: told)
                    }
                }
            } onCancel: {
                told.cancel()
            }
        } catch PocketMuseError.Cancelled where Task.isCancelled {
            throw CancellationError()
        }
    }

    /// Removes what imports to this folder that were stopped or killed have left beside it, unless
    /// one is still at work.
    public func discard() throws {
        try discardImport(target: folder.path)
    }
}

/// Told on the import's thread, asked by a task.
private final class Told: ImportListener, @unchecked Sendable {
    private let onProgress: @Sendable (ImportProgress) throws -> Void

    // All below is guarded by this lock.
    private let lock = NSLock()
    private var continuation: CheckedContinuation<Void, any Error>?
    private var importer: NativeImporter?
    private var isCancelled = false
    /// What the app threw.
    private var thrown: (any Error)?

    init(_ onProgress: @escaping @Sendable (ImportProgress) throws -> Void) {
        self.onProgress = onProgress
    }

    func begin(
        _ continuation: CheckedContinuation<Void, any Error>,
        start: () throws -> NativeImporter
    ) {
        lock.withLock { self.continuation = continuation }
        do {
            let importer = try start()
            let isCancelled = lock.withLock {
                self.importer = importer
                return self.isCancelled
            }
            if isCancelled { importer.cancel() }
        } catch {
            end(error)
        }
    }

    func cancel() {
        let importer = lock.withLock {
            isCancelled = true
            return self.importer
        }
        importer?.cancel()
    }

    func progress(progress: ImportProgress) throws {
        do {
            try onProgress(progress)
        } catch {
            lock.withLock { thrown = error }
            throw PocketMuseError.Cancelled
        }
    }

    func ended(error: PocketMuseError?) throws {
        end(lock.withLock { thrown } ?? error)
    }

    private func end(_ error: (any Error)?) {
        let continuation = lock.withLock {
            let continuation = self.continuation
            (self.continuation, importer) = (nil, nil)
            return continuation
        }
        if let error { continuation?.resume(throwing: error) } else { continuation?.resume() }
    }
}
