// swift-tools-version: 6.0
// PocketMuse for Swift. On Apple's systems the library is an XCFramework that
// `build-xcframework.sh` makes, and ONNX Runtime is its vendor's own package; on Linux, where the
// tests run, both are shared libraries.
import PackageDescription

#if os(Linux)
let dependencies: [Package.Dependency] = []
let native: Target = .systemLibrary(name: "PocketMuseFFI", path: "Sources/PocketMuseFFI")
let others: [Target.Dependency] = []
let libraries = Context.packageDirectory + "/lib"
let link: [LinkerSetting] = [
    .unsafeFlags(["-L", libraries, "-Xlinker", "-rpath", "-Xlinker", libraries]),
    .linkedLibrary("pocketmuse_mobile"),
]
#else
let dependencies: [Package.Dependency] = [
    .package(
        url: "https://github.com/microsoft/onnxruntime-swift-package-manager", from: "1.24.2")
]
let native: Target = .binaryTarget(name: "PocketMuseFFI", path: "PocketMuseFFI.xcframework")
let others: [Target.Dependency] = [
    .product(name: "onnxruntime", package: "onnxruntime-swift-package-manager")
]
let link: [LinkerSetting] = [.linkedLibrary("c++")]
#endif

let package = Package(
    name: "PocketMuse",
    platforms: [.iOS(.v16), .macOS(.v14)],
    products: [.library(name: "PocketMuse", targets: ["PocketMuse"])],
    dependencies: dependencies,
    targets: [
        native,
        .target(
            name: "PocketMuse", dependencies: ["PocketMuseFFI"] + others, linkerSettings: link),
        .executableTarget(name: "Cases", dependencies: ["PocketMuse"], path: "Tests/Cases"),
    ],
    swiftLanguageModes: [.v6]
)
