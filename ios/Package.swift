// swift-tools-version: 6.0
// PocketMuse for Swift. On Apple's systems the library is an XCFramework that
// `build-xcframework.sh` makes, and ONNX Runtime is its vendor's own package; on Linux, where the
// tests run, both are shared libraries.
import PackageDescription

#if os(Linux)
let dependencies: [Package.Dependency] = []
// For what Apple's systems have and Linux has not, so that all files are compiled and run.
let standIns = ["CoreGraphics", "os"]
// `.ci/swift` runs the first, which starts the second: the lines of the README.
let tests: [Target] =
    ["Cases", "Readme"].map {
        .executableTarget(name: $0, dependencies: ["PocketMuse"], path: "Tests/\($0)")
    } + standIns.map { .target(name: $0, path: "Tests/StandIns/\($0)") }
let native: Target = .systemLibrary(name: "PocketMuseFFI", path: "Sources/PocketMuseFFI")
let others = standIns.map(Target.Dependency.init(stringLiteral:))
let libraries = Context.packageDirectory + "/lib"
let link: [LinkerSetting] = [
    .unsafeFlags(["-L", libraries, "-Xlinker", "-rpath", "-Xlinker", libraries]),
    .linkedLibrary("pocketmuse_mobile"),
]
let excluded = ["PrivacyInfo.xcprivacy"]
let resources: [Resource] = []
#else
let tests: [Target] = []
let dependencies: [Package.Dependency] = [
    .package(
        url: "https://github.com/microsoft/onnxruntime-swift-package-manager", from: "1.24.2")
]
let native: Target = .binaryTarget(name: "PocketMuseFFI", path: "PocketMuseFFI.xcframework")
let others: [Target.Dependency] = [
    .product(name: "onnxruntime", package: "onnxruntime-swift-package-manager")
]
let link: [LinkerSetting] = [.linkedLibrary("c++")]
let excluded: [String] = []
let resources: [Resource] = [.copy("PrivacyInfo.xcprivacy")]
#endif

let package = Package(
    name: "PocketMuse",
    platforms: [.iOS(.v16), .macOS(.v14)],
    products: [.library(name: "PocketMuse", targets: ["PocketMuse"])],
    dependencies: dependencies,
    targets: [
        native,
        .target(
            name: "PocketMuse", dependencies: ["PocketMuseFFI"] + others, exclude: excluded,
            resources: resources, linkerSettings: link),
    ] + tests,
    swiftLanguageModes: [.v6]
)
