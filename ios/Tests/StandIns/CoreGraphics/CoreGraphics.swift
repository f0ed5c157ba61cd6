// Stands in for Apple's framework of this name on Linux, so that `GeneratedImage.cgImage` is compiled
// and run there. An image is what it was made of. Declared as Apple documents it.
import Foundation

public typealias CFData = NSData
public typealias CFString = NSString

public final class CGDataProvider {
    public let data: CFData?

    public init?(data: CFData) {
        self.data = data
    }
}

public final class CGColorSpace {
    nonisolated(unsafe) public static let sRGB: CFString = "kCGColorSpaceSRGB"
    public let name: CFString?

    public init?(name: CFString) {
        self.name = name
    }
}

public enum CGImageAlphaInfo: UInt32 {
    case none, premultipliedLast, premultipliedFirst, last, first, noneSkipLast, noneSkipFirst
    case alphaOnly
}

public struct CGBitmapInfo: OptionSet, Sendable {
    public let rawValue: UInt32

    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }
}

public enum CGColorRenderingIntent: Int32 {
    case defaultIntent
}

public final class CGImage {
    public let width: Int
    public let height: Int
    public let bitsPerComponent: Int
    public let bitsPerPixel: Int
    public let bytesPerRow: Int
    public let colorSpace: CGColorSpace?
    public let bitmapInfo: CGBitmapInfo
    public let dataProvider: CGDataProvider?

    public init?(
        width: Int, height: Int, bitsPerComponent: Int, bitsPerPixel: Int, bytesPerRow: Int,
        space: CGColorSpace, bitmapInfo: CGBitmapInfo, provider: CGDataProvider,
        decode: UnsafePointer<CGFloat>?, shouldInterpolate: Bool, intent: CGColorRenderingIntent
    ) {
        (self.width, self.height) = (width, height)
        (self.bitsPerComponent, self.bitsPerPixel) = (bitsPerComponent, bitsPerPixel)
        (self.bytesPerRow, colorSpace) = (bytesPerRow, space)
        (self.bitmapInfo, dataProvider) = (bitmapInfo, provider)
    }
}
