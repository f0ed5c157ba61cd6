#!/usr/bin/env bash
# Makes the XCFramework of the library and the Swift that belongs to it:
#
#     build-xcframework.sh FOLDER
#
# FOLDER/PocketMuseFFI.xcframework    static libraries for device, simulator and macOS
# FOLDER/PocketMuseFFI.xcframework.zip and its checksum
# FOLDER/Generated.swift              for Sources/PocketMuse
#
# Static libraries need no SDK, so this runs on Linux, too. On a Mac with rustup's targets it takes
# those; elsewhere Debian's rustc-web, which brings the sources of the standard library.
set -euo pipefail
mkdir -p "${1:?usage: build-xcframework.sh FOLDER}"
folder=$(realpath "$1")
cd "$(dirname "$0")/.."
export IPHONEOS_DEPLOYMENT_TARGET=16.0 MACOSX_DEPLOYMENT_TARGET=14.0
target=${CARGO_TARGET_DIR:-target}
version=$(sed -n '/^\[workspace.package\]/,/^version/s/^version = "\(.*\)"/\1/p' Cargo.toml)
framework=$folder/PocketMuseFFI.xcframework

build() { # TARGET
    if [ "$(uname)" = Darwin ]; then
        cargo rustc --release -p pocketmuse-mobile --lib \
            --crate-type staticlib --target "$1"
    else
        env PATH=/usr/bin:/bin RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
            CARGO_TARGET_DIR="$target/apple" /usr/bin/cargo rustc --release \
            -p pocketmuse-mobile --lib \
            --crate-type staticlib --target "$1" \
            -Zbuild-std=std,panic_unwind
    fi >&2
}

# A slice: slice NAME TARGET MINIMUM
slice() {
    build "$2"
    local built=$target
    [ "$(uname)" = Darwin ] || built=$target/apple
    mkdir -p "$framework/$1/Headers"
    cp "$built/$2/release/libpocketmuse_mobile.a" "$framework/$1/libPocketMuseFFI.a"
    cp "$generated/PocketMuseFFI.h" "$framework/$1/Headers/"
    cp "$generated/PocketMuseFFI.modulemap" "$framework/$1/Headers/module.modulemap"
    cp ios/Sources/PocketMuse/PrivacyInfo.xcprivacy "$framework/$1/"
}

mobile=$(.ci/mobile generated)
generated=$mobile/generated/swift
rm -rf "$framework" "$framework.zip"
slice ios-arm64 aarch64-apple-ios
slice ios-arm64-simulator aarch64-apple-ios-sim
slice macos-arm64 aarch64-apple-darwin
cp "$generated/PocketMuse.swift" "$folder/Generated.swift"

python3 - "$framework" "$version" <<'PYTHON'
import pathlib, plistlib, sys

framework, version = pathlib.Path(sys.argv[1]), sys.argv[2]
slices = [
    ("ios-arm64", "ios", None, "16.0"),
    ("ios-arm64-simulator", "ios", "simulator", "16.0"),
    ("macos-arm64", "macos", None, "14.0"),
]
libraries = []
for name, platform, variant, minimum in slices:
    library = {
        "LibraryIdentifier": name,
        "LibraryPath": "libPocketMuseFFI.a",
        "BinaryPath": "libPocketMuseFFI.a",
        "HeadersPath": "Headers",
        "SupportedArchitectures": ["arm64"],
        "SupportedPlatform": platform,
        "MinimumOSVersion": minimum,
    }
    if variant:
        library["SupportedPlatformVariant"] = variant
    libraries.append(library)
plist = {
    "AvailableLibraries": libraries,
    "CFBundlePackageType": "XFWK",
    "CFBundleShortVersionString": version,
    "XCFrameworkFormatVersion": "1.0",
}
(framework / "Info.plist").write_bytes(plistlib.dumps(plist))
PYTHON

# The same bytes from the same files: names in order, one date.
python3 - "$framework" <<'PYTHON'
import hashlib, pathlib, sys, zipfile

framework = pathlib.Path(sys.argv[1])
with zipfile.ZipFile(f"{framework}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
    for path in sorted(path for path in framework.rglob("*") if path.is_file()):
        entry = zipfile.ZipInfo(str(path.relative_to(framework.parent)), (2026, 1, 1, 0, 0, 0))
        entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
        archive.writestr(entry, path.read_bytes())
checksum = hashlib.sha256(pathlib.Path(f"{framework}.zip").read_bytes()).hexdigest()
pathlib.Path(f"{framework}.zip.checksum").write_text(checksum + "\n")
print(checksum)  # as `swift package compute-checksum` prints it
PYTHON
