#!/usr/bin/env bash
# The half of test.sh that runs inside a fresh system, as root: packages lie in /packages.
# Stops at the first thing that is not as it should be, and says which.
set -euo pipefail
trap 'echo "error: test_inside.sh line $LINENO failed" >&2' ERR
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
models=/usr/share/moka/models
cd /packages

say() { echo "ok: $*"; }
want() { # WORDS FILE: the file has the words
  grep -qF -- "$1" "$2" || {
    echo "error: '$1' is not in:" >&2
    cat "$2" >&2
    exit 1
  }
}
apt() { apt-get -q -y -o Dpkg::Use-Pty=0 "$@" >log 2>&1 || { cat log >&2; exit 1; }; }
installed() { dpkg-query -W -f '${Package}\n' | sort; }

# ---- install -------------------------------------------------------------------------------------

installed >before
apt update
apt install --no-install-recommends ./*.deb
# Neither says by its exit status that it found something.
{ dpkg --audit && dpkg --verify moka libmoka1 libmoka-dev moka-models; } >log
[[ ! -s log ]] || { cat log >&2; exit 1; }
say "installed"

# ---- the command ---------------------------------------------------------------------------------

moka --version
moka run $models/stories.moka -p "Once upon a time" -n 8 --seed 1 >text
want "Once upon a time" text
[[ $(wc -c <text) -gt 20 ]]
moka verify $models/forecaster.moka
moka forecast $models/forecaster.moka $models/ecg-example.csv --last 300 >next.csv
want "step,q0.1,q0.5,q0.9" next.csv
[[ $(wc -l <next.csv) -eq 181 ]]
say "runs"

[[ $(man -w moka) == /usr/share/man/man1/moka.1.gz ]]
MANWIDTH=80 man --warnings=w moka >page 2>warnings
[[ ! -s warnings ]] || { cat warnings >&2; exit 1; }
want "moka run MODEL" page
want "--repeat-penalty X" page
say "man page"

# As an interactive shell loads it: by the first TAB behind the name.
cat >complete.sh <<'END'
source /usr/share/bash-completion/bash_completion
complete_words() { # WORD...: what TAB offers behind the words
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE} COMPREPLY=()
  # What TAB calls has another name from bash-completion 2.12 on.
  declare -F _comp_load >/dev/null && _comp_load moka || _completion_loader moka || true
  _moka moka "${@: -1}" "${@: -2:1}"
  printf '%s\n' "${COMPREPLY[@]}"
}
END
completes() { # EXPECTED WORD...
  bash -c 'source ./complete.sh; complete_words "${@:2}"' - "$@" >offered
  grep -qxF -- "$1" offered || { echo "error: ${*:2}: '$1' is not offered but:" >&2; cat offered >&2; exit 1; }
}
completes forecast moka fo
completes --min-p moka run --mi
completes --horizon moka forecast $models/forecaster.moka --h
completes $models/stories.moka moka run $models/st
bash -c 'source ./complete.sh; complete_words moka run --min-p ""' >offered
[[ -z $(tr -d '\n' <offered) ]] # a number is wanted: no files
say "bash completion"

# ---- programs ------------------------------------------------------------------------------------

cp -r /usr/share/doc/libmoka-dev/examples src
mkdir bin
# shellcheck disable=SC2046  # words of their own, on purpose
{
  gcc -std=c11 -Wall -Wextra -Werror src/hello.c -o bin/hello_c $(pkg-config --cflags --libs moka-c)
  gcc -std=c11 -Wall -Wextra -Werror src/sensor.c -o bin/sensor $(pkg-config --cflags --libs moka-c)
  g++ -std=c++17 -Wall -Wextra -Werror src/hello.cc -o bin/hello_cpp $(pkg-config --cflags --libs moka)
}
[[ $(pkg-config --modversion moka moka-c | uniq) == $(moka --version | sed -n '1s/moka //p') ]]
ldd bin/hello_c >log
want "/libmoka.so.1 " log
cmake -S src -B cmake -DCMAKE_BUILD_TYPE=Release >log 2>&1 || { cat log >&2; exit 1; }
cmake --build cmake >log 2>&1 || { cat log >&2; exit 1; }
bin/hello_c $models/stories.moka "There was once a king" >expected
want "There was once a king" expected
[[ $(wc -c <expected) -gt 60 ]]
for program in bin/hello_cpp cmake/hello_c cmake/hello_cpp; do
  $program $models/stories.moka "There was once a king" >said
  cmp said expected
done
say "C and C++, by pkg-config and by CMake"

# A heart that skips: values of the example, and three that no heart has.
{ sed -n '1,1500p' $models/ecg-example.csv; printf '9\n-9\n9\n'; } >values
for program in bin/sensor cmake/sensor; do
  $program $models/forecaster.moka 1 1024 <values >alarms 2>summary
  cat summary
  want "1502 values" summary
  for at in 1500 1501 1502; do want "alarm at $at:" alarms; done
done
head -n 1499 values >calm
[[ $(bin/sensor $models/forecaster.moka 1 1024 <calm 2>/dev/null | wc -l) -eq 0 ]]
status=0
bin/sensor $models/stories.moka </dev/null 2>message || status=$?
[[ $status -eq 4 ]]
want "no forecaster" message
say "sensor"

# ---- away again ----------------------------------------------------------------------------------

apt remove moka libmoka-dev libmoka1 moka-models
[[ ! -e /usr/bin/moka ]]
[[ ! -e /usr/lib/$(gcc -print-multiarch)/libmoka.so.1 ]]
ldconfig -p >libraries
if grep libmoka libraries; then exit 1; fi # the trigger ran
# Without settings of theirs nothing is left to purge, and apt no longer knows their names.
dpkg --purge moka libmoka-dev libmoka1 moka-models >log 2>&1
apt autoremove --purge
# (What man keeps of pages that it showed is man's.)
left=$(find / -xdev \( -path /proc -o -path /sys -o -path /packages -o -path /tmp \
  -o -path /var/cache/man \) -prune -o \
  -iname '*moka*' -print | grep -v '^/etc/apt/apt.conf.d/90moka$' || true)
[[ -z $left ]] || { echo "error: these stay behind: $left" >&2; exit 1; }
installed >after
comm -13 before after >new
[[ ! -s new ]] || { echo "error: packages that stay behind:" >&2; cat new >&2; exit 1; }
say "removed and purged"
