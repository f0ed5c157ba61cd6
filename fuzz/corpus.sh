#!/usr/bin/env bash
# Fills fuzz/corpus/TARGET from the test fixtures.
set -euo pipefail
cd "$(dirname "$0")"

fixtures=../tests/fixtures
mkdir -p corpus/image_bytes
find "$fixtures" -type f \( -name '*.png' -o -name '*.jpg' -o -name '*.bmp' -o -name '*.webp' \
    -o -name '*.gif' -o -name '*.tif' \) -size -100k |
    while read -r file; do
        name=${file#"$fixtures"/}
        cp "$file" "corpus/image_bytes/${name//\//-}"
    done
ls corpus/image_bytes | wc -l
