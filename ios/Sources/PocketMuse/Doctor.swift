import Foundation

/// Says what can be used on this device: ONNX Runtime, the processor, memory, and what other providers
/// than the CPU show of a package's stages. Nothing about the user is in it: a report may be sent.
public struct Doctor: Sendable {
    private let package: URL?
    private let options: Options
    private let again: Bool

    /// - Parameters:
    ///   - package: Whose stages are looked at; by default none.
    ///   - options: How it is opened. Its providers compute the stages that they are named for; where
    ///     none is named, each that has a library computes all. Its flavour is looked at, or all that
    ///     the package has. What is found out is kept in `prepared`.
    ///   - again: Whether providers are proved again of which everything is known.
    public init(package: URL? = nil, options: Options = Options(), again: Bool = false) {
        (self.package, self.options, self.again) = (package, options, again)
    }

    /// Looks at everything, and returns what it found: also what is refused.
    ///
    /// - Parameter onStage: Called before a stage is proved, which takes seconds or minutes, on the
    ///   doctor's own thread. What it throws ends the doctor.
    /// - Throws: ``PocketMuseError`` if not everything can be looked at; `CancellationError` if the
    ///   task is cancelled, as soon as the provider comes back.
    public func run(
        onStage: @escaping @Sendable (Stage, Provider) throws -> Void = { _, _ in }
    ) async throws -> DoctorReport {
        startLog()
        let told = Told(onStage)
        return try await told.report.value {
            let doctor = try NativeDoctor.start(
                package: package?.path, options: options, again: again, listener: told)
            return { doctor.cancel() }
        }
    }
}

/// Told on the doctor's thread.
private final class Told: DoctorListener {
    let report = Awaited<DoctorReport>()
    private let onStage: @Sendable (Stage, Provider) throws -> Void

    init(_ onStage: @escaping @Sendable (Stage, Provider) throws -> Void) {
        self.onStage = onStage
    }

    func proving(stage: Stage, provider: Provider) throws {
        try report.call { try onStage(stage, provider) }
    }

    func ended(outcome: DoctorOutcome) throws {
        switch outcome {
        case .finished(let report): self.report.end(.success(report))
        case .failed(let error): report.end(.failure(error))
        }
    }
}
