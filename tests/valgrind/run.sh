#!/usr/bin/env bash
# Runs tests under valgrind's memcheck, one group after the other: no use of bytes that nobody wrote, none
# outside of a block, no leak.
#
#   tests/valgrind/run.sh [--build DIR] [--only GROUP]
#
# DIR (build/release) has the tests built. Models run on the scalar table, in which nothing hides from
# memcheck; the tests of kernels run every table of the CPU that valgrind shows, which has AVX2 and no
# AVX-512. A test is some 30 to 60 times slower; the groups leave out what only takes long (golden files,
# shipped models) and what starts other programs. Prints the errors and the seconds of each group; exit
# status 1 if there is one. Needs valgrind.
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$project/build/release only=''
while (($# > 0)); do
  case $1 in
    --build | --only)
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

groups=(
  'sessions|session:*,session batch:*,session kinds:*,sampler:*,thread pool:*'
  'chats|chat:*'
  'kernels|kernel*,half window:*,tiles:*'
  'loader|loader:*,limits:*,model info:*,atomic file:*,file map:*'
  'tokenizers|tokenizer:*,pattern:*,sentencepiece:*'
  'conversion|converter:*,safetensors:*,torch:*,msgpack:*,ocdbt:*,quantize:*,snapshot:*'
  'C|capi:*'
)
cd "$project"
failed=0
printf '%-12s %8s %8s %10s %8s\n' group cases passed errors seconds
for group in "${groups[@]}"; do
  name=${group%%|*}
  if [[ -n $only && $only != "$name" ]]; then continue; fi
  log=$build/valgrind-$name.log
  began=$SECONDS
  status=0
  # The tests' own malloc counts blocks; valgrind's takes its place.
  MOKA_ISA=scalar valgrind --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,indirect \
    --errors-for-leak-kinds=definite,indirect --log-file="$log" \
    "$build/tests/moka_tests" -tc="${group#*|}" -tce='capi: an allocator of*' >"$log.out" 2>&1 || status=$?
  errors=$(sed -n 's/.*ERROR SUMMARY: \([0-9]*\) errors.*/\1/p' "$log" | tail -1)
  read -r cases passed < <(sed -n 's/.*test cases: *\([0-9]*\) | *\([0-9]*\) passed.*/\1 \2/p' "$log.out" \
    | tail -1) || true
  printf '%-12s %8s %8s %10s %8s\n' "$name" "${cases:-?}" "${passed:-?}" "${errors:-?}" \
    $((SECONDS - began))
  if ((status != 0)); then
    failed=1
    echo "  status $status; see $log and $log.out"
  fi
done
exit $failed
