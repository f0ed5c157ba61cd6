#!/usr/bin/env bash
# Runs every target for so many seconds, so many at a time (0: all), and prints a line for each and
# their sum:
#   run.sh FOLDER_OF_TARGETS SECONDS JOBS [TARGET...]
# With 0 seconds it runs what is in the corpus, and looks for nothing.
# Inputs are read from and added to corpus/TARGET, what makes one fail goes to artifacts/TARGET; both
# are in the current folder, as are the dictionaries. The code is that of cargo test: 0 if all hold.
set -euo pipefail

targets=$(realpath "$1") seconds=$2 jobs=$3
shift 3
all=(archive configs graph_check graphs image_bytes job manifest merges prompt_weights request safetensors tokenizer)
[ $# -gt 0 ] && all=("$@")

logs=$(mktemp -d)
# The targets' files: in memory where there is such a folder, and gone with a target that is killed.
SCRATCH=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
export SCRATCH
trap 'rm -rf "$logs" "$SCRATCH"' EXIT

one() {
    local target=$3
    mkdir -p "corpus/$target" "artifacts/$target"
    # 0 seconds are no limit for libFuzzer, 0 runs are the corpus.
    local most=-max_total_time=$2
    [ "$2" != 0 ] || most=-runs=0
    "$1/$target" "corpus/$target" "$most" -dict="dictionaries/$target" \
        -artifact_prefix="artifacts/$target/" -timeout=20 -rss_limit_mb=1024 -max_len=65536 \
        -print_final_stats=1 >"$4/$target" 2>&1 || echo "failed: $?" >>"$4/$target"
}
export -f one
begin=$SECONDS
printf '%s\n' "${all[@]}" | xargs -P "$jobs" -I{} bash -c 'one "$@"' _ "$targets" "$seconds" {} "$logs"

failed=0
for target in "${all[@]}"; do
    log=$logs/$target
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    # A run that fails prints no statistics: the last line that says how far it was counts.
    runs=${runs:-$(sed -n 's/^#\([0-9]*\)\t.*/\1/p' "$log" | tail -1)}
    edges=$(sed -n 's/.*cov: \([0-9]*\) .*/\1/p' "$log" | tail -1)
    result=ok
    if grep -q '^failed: ' "$log"; then
        result=FAILED failed=$((failed + 1))
        tail -n 40 "$log"
    fi
    grep -h '^a library panicked: ' "$log" || true
    echo "$target: $result, ${runs:-0} executions, ${edges:-0} edges"
done
passed=$((${#all[@]} - failed))
echo "test result: $([ $failed = 0 ] && echo ok || echo FAILED). $passed passed; $failed failed;" \
    "0 ignored; finished in $((SECONDS - begin))s"
[ $failed = 0 ]
