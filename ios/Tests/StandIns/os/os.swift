// Stands in for Apple's module of this name on Linux, so that `SystemLog` is compiled and run there.
// Declared as Apple documents it, but for `logged`.
import Foundation

public struct OSLogType: Equatable, Sendable {
    public static let `default` = Self(rawValue: 0)
    public static let info = Self(rawValue: 1)
    public static let debug = Self(rawValue: 2)
    public static let error = Self(rawValue: 16)
    public let rawValue: UInt8
}

public struct OSLogPrivacy: Sendable {
    public static var `public`: Self { Self() }
}

public struct OSLogMessage: ExpressibleByStringInterpolation {
    public struct StringInterpolation: StringInterpolationProtocol {
        var text = ""

        public init(literalCapacity: Int, interpolationCount: Int) {}

        public mutating func appendLiteral(_ literal: String) {
            text += literal
        }

        public mutating func appendInterpolation(
            _ text: @autoclosure () -> String, privacy: OSLogPrivacy
        ) {
            self.text += text()
        }
    }

    let text: String

    public init(stringLiteral text: String) {
        self.text = text
    }

    public init(stringInterpolation: StringInterpolation) {
        text = stringInterpolation.text
    }
}

public struct Logger: Sendable {
    private let subsystem: String

    public init(subsystem: String, category: String) {
        self.subsystem = subsystem
    }

    public func log(level: OSLogType, _ message: OSLogMessage) {
        lock.withLock { lines.append((level, message.text)) }
    }
}

private let lock = NSLock()
nonisolated(unsafe) private var lines: [(OSLogType, String)] = []

/// What was logged.
public func logged() -> [(OSLogType, String)] {
    lock.withLock { lines }
}
