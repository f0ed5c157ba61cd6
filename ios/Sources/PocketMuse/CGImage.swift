#if canImport(CoreGraphics)
import CoreGraphics
import Foundation

extension GeneratedImage {
    /// The image for Apple's frameworks, in sRGB. Its pixels are copied once, 4 bytes each.
    ///
    /// - Throws: ``PocketMuseError/Internal(reason:)`` if the system makes no image of it.
    public func cgImage() throws -> CGImage {
        let (columns, rows) = (Int(width()), Int(height()))
        let pixels = try rgba() as CFData
        guard let provider = CGDataProvider(data: pixels),
            let colours = CGColorSpace(name: CGColorSpace.sRGB),
            let image = CGImage(
                width: columns, height: rows, bitsPerComponent: 8, bitsPerPixel: 32,
                bytesPerRow: 4 * columns, space: colours,
                bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.noneSkipLast.rawValue),
                provider: provider, decode: nil, shouldInterpolate: true,
                intent: .defaultIntent)
        else { throw PocketMuseError.Internal(reason: "expected an image, found none") }
        return image
    }
}
#endif
