import Foundation

/// A package, ready to make images. Its jobs take turns, so the memory in use is that of one. May
/// be used by several threads and tasks. Close it when it is no longer needed.
public final class Generator: Sendable {
    private let native: NativeGenerator

    /// Opens a package folder and starts ONNX Runtime. Cheap: loads no graph.
    ///
    /// ONNX Runtime's usage reports are switched off. An app that sets the environment variable
    /// `ORT_DISABLE_TELEMETRY` to `0` before, lets it report.
    ///
    /// - Throws: ``PocketMuseError`` if it is no package, or ONNX Runtime is missing.
    public init(package: URL, options: Options = Options()) throws {
        startLog()
        native = try NativeGenerator.open(package: package.path, options: options)
    }

    /// Makes one image from a prompt. Returns when the job has ended.
    ///
    /// - Throws: ``PocketMuseError`` if the image cannot be made; `CancellationError` if the task is
    ///   cancelled, as soon as the job has stopped.
    public func generate(_ request: Request) async throws -> GeneratedImage {
        try await first(.generate(request: request))
    }

    /// Makes one image from an image: all of it, or what the mask says. Otherwise as ``generate(_:)``.
    public func edit(_ request: Request, source: Source) async throws -> GeneratedImage {
        try await first(.edit(request: request, source: source))
    }

    /// Does any work, and returns what came of it. Otherwise as ``generate(_:)``.
    public func run(_ work: Work) async throws -> Finished {
        let events = try started(work, previews: .no)
        while let event = try await events.next() {
            if case .finished(let finished) = event { return finished }
        }
        throw CancellationError()
    }

    /// What happens while an image is made. The job starts at once, and is stopped when the stream
    /// is no longer used.
    public func events(_ request: Request) -> AsyncThrowingStream<Event, any Error> {
        events(.generate(request: request))
    }

    /// What happens while any work is done. The job starts at once, and is stopped when the stream
    /// is no longer used. Who takes events slowly delays the job, and loses nothing but previews.
    /// The stream throws ``PocketMuseError`` if the job fails, and `CancellationError` if the task
    /// is cancelled.
    public func events(_ work: Work, previews: Previews = .whole)
        -> AsyncThrowingStream<Event, any Error>
    {
        let use = Use(Result { try started(work, previews: previews) })
        return AsyncThrowingStream { try await use.events.get().next() }
    }

    /// Starts a job without tasks. Everything is told to `listener`, on the job's own thread.
    ///
    /// - Throws: ``PocketMuseError/Closed`` if the generator is closed.
    public func start(_ work: Work, previews: Previews, listener: any Listener) throws -> Job {
        try native.start(work: work, previews: previews, listener: listener)
    }

    /// Loads what stays loaded for such an image, and makes none: the first image then comes as soon
    /// as the next ones. For progress take ``events(_:previews:)`` of ``Work/warm(request:)``.
    ///
    /// - Throws: ``PocketMuseError`` if it cannot be loaded; `CancellationError` as ``generate(_:)``.
    public func warm(_ request: Request = Request()) async throws {
        _ = try await run(.warm(request: request))
    }

    /// What the package can do. Loads nothing.
    ///
    /// - Throws: ``PocketMuseError/Closed`` if the generator is closed.
    public func capabilities() throws -> Capabilities {
        try native.capabilities()
    }

    /// The most memory that the process would hold while it makes such an image, in bytes: on
    /// Apple's systems its footprint. Loads nothing.
    ///
    /// - Throws: ``PocketMuseError`` if the request is refused.
    public func plan(_ request: Request) throws -> UInt64 {
        try plan(.generate(request: request))
    }

    /// As for a request, of any work: the images of an edit count, too.
    public func plan(_ work: Work) throws -> UInt64 {
        try native.plan(work: work)
    }

    /// Drops what stays loaded for the next job: at once if no job runs, else as soon as the running
    /// job has finished its step or image; the rest of that job loads every network alone. Call it
    /// when the system warns of little memory.
    ///
    /// - Returns: The bytes that were held.
    /// - Throws: ``PocketMuseError/Closed`` if the generator is closed.
    @discardableResult
    public func trim() throws -> UInt64 {
        try native.trim()
    }

    /// Stops all jobs, waits for them, and frees everything. Any call after it throws
    /// ``PocketMuseError/Closed``. In a callback of a job it does not wait for that job.
    public func close() throws {
        try native.shut()
    }

    private func first(_ work: Work) async throws -> GeneratedImage {
        // A request is for at least one image.
        try await run(work).images[0]
    }

    private func started(_ work: Work, previews: Previews) throws -> JobEvents {
        let events = JobEvents()
        let job = try native.start(work: work, previews: previews, listener: events)
        events.begin(job)
        return events
    }
}

/// The use of a stream: when it is over the job is stopped.
private final class Use: Sendable {
    let events: Result<JobEvents, any Error>

    init(_ events: Result<JobEvents, any Error>) {
        self.events = events
    }

    deinit {
        if case .success(let events) = events { events.abandon() }
    }
}
