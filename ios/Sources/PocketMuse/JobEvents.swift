import Foundation

/// A job's callbacks become events that one task takes: a bridge between two threads. Told on the
/// job's thread, asked by a task.
final class JobEvents: Listener, @unchecked Sendable {
    /// Events that wait to be taken; when so many do, the job waits, too.
    private static let capacity = 16

    private typealias Taker = CheckedContinuation<Event?, any Error>

    /// How the job stands.
    private enum Stand {
        case running
        /// It has ended; nobody was told yet.
        case ended(Result<Event?, any Error>)
        /// It has ended, and that was told.
        case told
    }

    // All below is guarded by this lock.
    private let changed = NSCondition()
    private var waiting: [Event] = []
    private var taker: Taker?
    private var stand = Stand.running
    private var job: Job?
    private var isAbandoned = false

    /// The job that tells was started: that is the first event.
    func begin(_ job: Job) {
        locked {
            self.job = job
            waiting.insert(.started(job), at: 0)
        }
    }

    /// Nobody takes events any more: stops the job, which no longer waits for that.
    func abandon() {
        let job = locked {
            isAbandoned = true
            waiting = []
            changed.broadcast()
            return self.job
        }
        job?.cancel()
    }

    /// The next event; `nil` after the last. If the task is cancelled the job stops, and when it
    /// has, this throws `CancellationError`.
    func next() async throws -> Event? {
        do {
            return try await withTaskCancellationHandler {
                try await withCheckedThrowingContinuation { take($0) }
            } onCancel: {
                abandon()
            }
        } catch PocketMuseError.Cancelled where Task.isCancelled {
            throw CancellationError()
        }
    }

    private func take(_ taker: Taker) {
        let result: Result<Event?, any Error>? = locked {
            if !waiting.isEmpty {
                changed.broadcast()
                return .success(waiting.removeFirst())
            }
            switch stand {
            case .running:
                self.taker = taker
                return nil
            case .ended(let result):
                stand = .told
                return result
            case .told:
                return .success(nil)
            }
        }
        if let result { taker.resume(with: result) }
    }

    private func send(_ event: Event) {
        let taker = locked {
            while waiting.count >= Self.capacity && !isAbandoned { changed.wait() }
            let taker = self.taker
            self.taker = nil
            if taker == nil && !isAbandoned { waiting.append(event) }
            return taker
        }
        taker?.resume(returning: event)
    }

    func progress(progress: JobProgress) throws {
        send(.progress(progress))
    }

    func preview(image: Pixels) throws {
        let isReplaced = locked {
            let last = waiting.lastIndex { if case .preview = $0 { true } else { false } }
            if let last { waiting[last] = .preview(image) }
            return last != nil
        }
        if !isReplaced { send(.preview(image)) }
    }

    func frame(frame: UInt32, image: GeneratedImage) throws {
        send(.frame(Int(frame), image))
    }

    func ended(outcome: Outcome) throws {
        let result: Result<Event?, any Error> =
            switch outcome {
            case .finished(let images, let request, let truncated):
                .success(
                    .finished(Finished(images: images, request: request, truncated: truncated)))
            case .failed(let error): .failure(error)
            }
        let taker = locked {
            let taker = self.taker
            self.taker = nil
            stand = taker == nil ? .ended(result) : .told
            return taker
        }
        taker?.resume(with: result)
    }

    private func locked<T>(_ body: () -> T) -> T {
        changed.lock()
        defer { changed.unlock() }
        return body()
    }
}
