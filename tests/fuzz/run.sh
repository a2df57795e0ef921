#!/usr/bin/env bash
# Builds the fuzz targets and runs them, as many at a time as there are processors.
#
#   tests/fuzz/run.sh [--seconds N | --runs N] [--only NAME,...] [--jobs N] [--corpus DIR] [--build DIR]
#
# --seconds is the time of each target (60), --runs its executions instead, --jobs how many run at a
# time, --build the folder of a build with the preset "fuzz". Inputs that reach
# something new are kept in DIR/NAME (build/fuzz-corpus) for the next time; it begins with the seeds of
# seeds.py and with tests/data/fuzz. Prints executions, coverage and corpus of each target. A target
# that ends the process fails the run and leaves its input as DIR/NAME-crash-*: minimise it
# (NAME -minimize_crash=1 -runs=100000 FILE), put it into tests/data/fuzz/NAME/, fix what it shows.
# Needs clang with libFuzzer.
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
seconds=60 runs='' only='' jobs=$(nproc)
corpus=$project/build/fuzz-corpus build=$project/build/fuzz
while (($# > 0)); do
  case $1 in
    --seconds | --runs | --only | --jobs | --corpus | --build)
      (($# >= 2)) || { echo "$1 needs a value" >&2; exit 2; }
      declare "${1#--}=$2"
      shift 2
      ;;
    *)
      sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
      exit 2
      ;;
  esac
done

cd "$project"
if [[ ! -f $build/build.ninja ]]; then
  cmake --preset fuzz -B "$build" >/dev/null
fi
cmake --build "$build" --target fuzz_programs >/dev/null
mkdir -p "$corpus"
python3 tests/fuzz/seeds.py "$corpus/seeds"

targets=()
for source in tests/fuzz/*_fuzz.cc; do
  name=$(basename "$source" .cc)
  if [[ -z $only || ",$only," == *",$name,"* ]]; then targets+=("$name"); fi
done
((${#targets[@]} > 0)) || { echo "--only $only names no target" >&2; exit 2; }
if [[ -n $runs ]]; then limit=(-runs="$runs"); else limit=(-max_total_time="$seconds"); fi

# Files that a target writes need no disk.
if [[ -w /dev/shm ]]; then export TMPDIR=/dev/shm; fi
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

# What the executions' rate hangs on (moka.h's target, one core: 1,930 a second without, 2,730 with):
# memory that was freed is kept from use for the next MB, not for the next 256, and inputs are chosen
# without weighing each by how rare what it reaches is.
export ASAN_OPTIONS=quarantine_size_mb=1:thread_local_quarantine_size_kb=64:malloc_context_size=4:${ASAN_OPTIONS:-}

row='%-18s %12s %8s %9s %8s %9s\n'
# Runs one target, then prints its row.
run_target() { # NAME
  local name=$1 kept=() log=$corpus/$1.log began=$SECONDS status=0 last
  mkdir -p "$corpus/$name" "$corpus/seeds/$name"
  if [[ -d tests/data/fuzz/$name ]]; then kept=("tests/data/fuzz/$name"); fi
  # Leaks are looked for at the end only: after every input they cost more than they find.
  "$build/tests/$name" "${limit[@]}" -max_len=4096 -entropic=0 -timeout=10 -rss_limit_mb=2048 \
    -print_final_stats=1 -artifact_prefix="$corpus/$name-" \
    "$corpus/$name" "$corpus/seeds/$name" "${kept[@]}" >"$log" 2>&1 || status=$?
  last=$(grep -E '^#[0-9]+.*cov: ' "$log" | tail -1 || true)
  # shellcheck disable=SC2059  # the format is the one above
  printf "$row" "$name" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
    "$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")" \
    "$(sed -n 's/.*cov: \([0-9]*\).*/\1/p' <<<"$last")" \
    "$(sed -n 's/.*corp: \([0-9]*\).*/\1/p' <<<"$last")" $((SECONDS - began))
  if ((status != 0)); then
    echo "  $name ended with status $status; the end of $log:"
    tail -25 "$log" | sed 's/^/  /'
  fi
  return "$status"
}

failed=0 running=0
# shellcheck disable=SC2059
printf "$row" target executions per-s coverage corpus seconds
for name in "${targets[@]}"; do
  if ((running == jobs)); then
    wait -n || failed=1
    running=$((running - 1))
  fi
  run_target "$name" &
  running=$((running + 1))
done
for (( ; running > 0; running -= 1)); do wait -n || failed=1; done
exit $failed
