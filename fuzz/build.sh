#!/usr/bin/env bash
# Builds all targets as cargo-fuzz does, but with the stable compiler and no sanitizer: what is
# unsafe is in libraries, and memory is bounded by the targets themselves. Prints their folder.
set -euo pipefail
cd "$(dirname "$0")"

host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
# With a target of its own, so that build scripts are not instrumented.
cargo build --release --bins --target "$host" >&2
echo "$CARGO_TARGET_DIR/$host/release"
