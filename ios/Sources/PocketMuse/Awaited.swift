import Foundation

/// What a thread of the library's own does, awaited by a task, and what an app throws on that thread.
final class Awaited<Value: Sendable>: @unchecked Sendable {
    // All below is guarded by this lock.
    private let lock = NSLock()
    private var continuation: CheckedContinuation<Value, any Error>?
    private var stop: (@Sendable () -> Void)?
    private var isCancelled = false
    /// What the app threw.
    private var thrown: (any Error)?

    /// Starts it, and returns what it ends with. A task that is cancelled stops it.
    ///
    /// - Parameter start: Starts it, and returns what stops it.
    func value(start: () throws -> @Sendable () -> Void) async throws -> Value {
        do {
            return try await withTaskCancellationHandler {
                try await withCheckedThrowingContinuation { continuation in
                    begin(continuation, start)
                }
            } onCancel: {
                cancel()
            }
        } catch PocketMuseError.Cancelled where Task.isCancelled {
            throw CancellationError()
        }
    }

    /// Calls the app. What it throws is kept, since it cannot cross the border itself.
    func call(_ app: () throws -> Void) throws {
        do {
            try app()
        } catch {
            lock.withLock { thrown = error }
            throw PocketMuseError.Cancelled
        }
    }

    /// It ended.
    func end(_ result: Result<Value, any Error>) {
        let (continuation, thrown) = lock.withLock {
            let continuation = self.continuation
            (self.continuation, stop) = (nil, nil)
            return (continuation, self.thrown)
        }
        continuation?.resume(with: thrown.map { .failure($0) } ?? result)
    }

    private func begin(
        _ continuation: CheckedContinuation<Value, any Error>,
        _ start: () throws -> @Sendable () -> Void
    ) {
        lock.withLock { self.continuation = continuation }
        do {
            let stop = try start()
            let isCancelled = lock.withLock {
                self.stop = stop
                return self.isCancelled
            }
            if isCancelled { stop() }
        } catch {
            end(.failure(error))
        }
    }

    private func cancel() {
        let stop = lock.withLock {
            isCancelled = true
            return self.stop
        }
        stop?()
    }
}
