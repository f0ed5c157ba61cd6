#!/usr/bin/env bash
# Fills docs/measured.md with what its commands print, each with the day and the processor:
# docs/measure.sh [TEXT] runs those that contain a text, or all, which takes hours and 12 GB of disk.
set -euo pipefail
cd "$(dirname "$0")/.."

page=docs/measured.md
status=0

where() {
    local name runtime sets
    name=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)
    runtime=$(cargo run --release -q --bin pocketmuse -- setup --offline |
        sed -n 's/.*\(ONNX Runtime [0-9.]*\), .*/\1/p')
    sets=$(grep -m 1 '^flags' /proc/cpuinfo | grep -owE 'avx2|avx512_vnni|avx_vnni|amx_int8' |
        sort | paste -sd ' ')
    echo "$(LC_ALL=C date '+%-d %B %Y'), ${name:-unknown processor} ($sets), $(nproc) threads, $runtime:"
}

# What a command found: its stdout without what cargo's tests and benches say of themselves.
found() {
    sed -E 's/^test [^ ]+ \.\.\. //' "$1" |
        { grep -vE '^(ok|ignored.*)$|^running |^test |^[[:space:]]+(change|Doc-tests)|# LIBNATIVE' || true; } |
        cat -s | sed '/./,$!d'
}

# measure COMMAND: the inside of its block.
measure() {
    local out rows
    out=$(mktemp)
    echo "$1" >&2
    if ! bash -c "$1" > "$out"; then
        cat "$out" >&2
        rm "$out"
        return 1
    fi
    rows=$(found "$out")
    rm "$out"
    if [[ -z $rows ]]; then
        echo "it printed no figure" >&2
        return 1
    fi
    printf '`%s`\n\n%s\n\n' "$1" "$(where)"
    if [[ $rows == "|"* ]]; then printf '%s\n' "$rows"; else printf '```text\n%s\n```\n' "$rows"; fi
}

# The page again, with new blocks in place of those that are wanted.
page_again() {
    local line block new
    while IFS= read -r line; do
        printf '%s\n' "$line"
        if [[ $line != "<!-- measured -->" ]]; then continue; fi
        IFS= read -r line
        block=$line
        while IFS= read -r next && [[ $next != "<!-- end -->" ]]; do block+=$'\n'$next; done
        line=${line#\`}
        line=${line%\`}
        if [[ $line == *"$1"* ]]; then
            if new=$(measure "$line"); then block=$new; else status=1; fi
        fi
        printf '%s\n<!-- end -->\n' "$block"
    done < "$page"
    return "$status"
}

new=$(mktemp --suffix=.part "$page.XXXXXX") # which git ignores
trap 'rm -f "$new"' EXIT
page_again "${1:-}" > "$new" || status=1
chmod 644 "$new"
mv "$new" "$page"
exit "$status"
