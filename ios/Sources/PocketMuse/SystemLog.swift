#if canImport(os)
import os

/// Log lines in the system's own log, where Console shows them.
final class SystemLog: LogSink {
    private let logger = Logger(subsystem: "org.pocketmuse", category: "PocketMuse")

    func log(level: LogLevel, target: String, line: String) throws {
        let type: OSLogType =
            switch level {
            case .error: .error
            case .warn: .default
            case .info: .info
            case .debug, .trace: .debug
            }
        // A line holds no prompt and nothing else of a person.
        logger.log(level: type, "\(line, privacy: .public)")
    }
}

private let started: Void = {
    try? setSystemLog(sink: SystemLog())
}()
#endif

/// Sends warnings and errors to the system's log, once, unless an app took the lines before:
/// `setLogSink`.
func startLog() {
    #if canImport(os)
    _ = started
    #endif
}
