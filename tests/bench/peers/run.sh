#!/bin/sh
# Measures Moka beside llama.cpp on this machine, from nothing: one command.
#
#   run.sh [--quick] [--only GROUP,...] [--threads N,...] [--moka PATH] DIR
#
# DIR gets the chroot with llama.cpp, models of random weights for both programs, and for each run a
# folder results/DATE-TIME with table.md, depth.svg and raw.jsonl. What is there already is used
# again. --quick leaves out the depth of 32,768 tokens and repeats less. Needs root, python3, a C
# compiler and about 3 GB in DIR. README.md has the rest.
set -eu

die() {
  echo "peers: $*" >&2
  exit 1
}
say() { echo "peers: $*" >&2; }

here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../../.." && pwd)
usage='usage: run.sh [--quick] [--only GROUP,...] [--threads N,...] [--moka PATH] DIR'
command="run.sh $*"

quick='' only='' dir=''
moka=$project/build/release/moka
threads=1
[ "$(nproc)" -lt 2 ] || threads=1,2
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=--quick ;;
    --only | --threads | --moka)
      [ $# -ge 2 ] || die "$1 needs a value; $usage"
      case $1 in
        --only) only=$2 ;;
        --threads) threads=$2 ;;
        *) moka=$2 ;;
      esac
      shift
      ;;
    -*) die "$1 is no option; $usage" ;;
    *)
      [ -z "$dir" ] || die "two folders, $dir and $1; $usage"
      dir=$1
      ;;
  esac
  shift
done
[ -n "$dir" ] || die "$usage"
case $threads in
  *[!0-9,]* | ,* | *, | *,,* | 0* | *,0*) die "--threads $threads: a list as in 1,2 is needed" ;;
esac
[ "$(id -u)" -eq 0 ] || die "the chroot needs root; run it as root"
[ -x "$moka" ] || die "no command $moka; build Moka first (./test.sh does) or give --moka PATH"
moka=$(cd "$(dirname "$moka")" && pwd)/$(basename "$moka")
mkdir -p "$dir" || die "cannot make $dir"
dir=$(cd "$dir" && pwd)
[ "$dir" != / ] || die "DIR must not be the root folder"
root=$dir/sid

# ---- models --------------------------------------------------------------------

make_gguf() { # PRESET
  if [ ! -e "$root/models/$1-f16.gguf" ]; then
    say "making $1-f16.gguf"
    chroot "$root" python3 /models/make_gguf.py "$1" "/models/$1-f16.gguf" >/dev/null ||
      die "make_gguf.py $1 failed, the reason is above"
  fi
  for form in q8_0 q4_0; do
    [ ! -e "$root/models/$1-$form.gguf" ] || continue
    say "making $1-$form.gguf"
    chroot "$root" llama-quantize "/models/$1-f16.gguf" "/models/$1-$form.part" "$form" \
      >"$root/models/quantize.log" 2>&1 || {
      tail -n 5 "$root/models/quantize.log" >&2
      die "llama-quantize of $1 to $form failed"
    }
    mv "$root/models/$1-$form.part" "$root/models/$1-$form.gguf"
  done
}

make_moka() { # PRESET
  if [ ! -e "$dir/moka/$1/facts.json" ]; then
    say "making the checkpoint $1"
    # In the chroot, which has numpy.
    chroot "$root" python3 /models/make_moka.py "$1" "/models/$1" >/dev/null ||
      die "make_moka.py $1 failed, the reason is above"
    rm -rf "${dir:?}/moka/$1"
    mv "$root/models/$1" "$dir/moka/$1"
  fi
  for weights in $moka_weights; do
    # A newer command may lay weights out in another way.
    out=$dir/moka/$1-$weights.moka
    [ ! -e "$out" ] || [ -n "$(find "$moka" -newer "$out")" ] || continue
    say "making $1-$weights.moka"
    "$moka" convert "$dir/moka/$1" -o "$out" --weights "$weights" --force \
      >"$dir/moka/convert.log" 2>&1 || {
      tail -n 5 "$dir/moka/convert.log" >&2
      die "moka convert of $1 to $weights failed"
    }
  done
}

"$here/setup.sh" "$root" || die "the chroot could not be made, the reason is above"
mkdir -p "$dir/moka" "$root/models"
cp "$here/make_gguf.py" "$here/make_moka.py" "$root/models/"
for preset in llama-15m llama-134m mamba-130m rwkv7-190m; do make_gguf "$preset"; done
moka_weights=int8
if "$moka" convert --help | grep -q int4; then
  moka_weights='int8 int4'
else
  say "this moka converts no int4: its rows stay empty"
  rm -f "$dir"/moka/*-int4.moka
fi
for preset in macchiato-15m latte-15m macchiato-134m latte-134m; do make_moka "$preset"; done

# ---- measurements --------------------------------------------------------------

cc -std=c11 -O3 -march=native -pthread "$here/read_limit.c" -o "$dir/read_limit" ||
  die "read_limit.c does not compile; a C compiler named cc is needed"
commit=$(git -C "$project" describe --always --dirty 2>/dev/null || echo unknown)
results=$dir/results/$(date -u +%Y%m%d-%H%M%S)
mkdir -p "$results"

set -- python3 "$here/measure.py" --dir "$dir" --results "$results" --moka "$moka" \
  --read-limit "$dir/read_limit" --commit "$commit" --command "$command" --threads "$threads" \
  ${only:+--only "$only"} ${quick:+"$quick"}
status=0
# llama.cpp reads /proc; a mount namespace of its own leaves nothing mounted behind.
if unshare -m true 2>/dev/null; then
  # shellcheck disable=SC2016  # the inner shell's parameters
  unshare -m sh -c 'mount -t proc proc "$0/proc" || exit 1; exec "$@"' "$root" "$@" || status=$?
else
  say "no mount namespace here: the chroot runs without /proc"
  "$@" || status=$?
fi
[ -s "$results/raw.jsonl" ] || die "nothing was measured"
python3 "$here/report.py" "$results" "$results" || die "the report failed, the reason is above"
say "results: $results/table.md"
exit "$status"
