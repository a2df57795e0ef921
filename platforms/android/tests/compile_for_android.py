"""Compiles the native sources for Android with clang, as far as that goes without the NDK: its target,
the C library's headers of glibc and jni.h of Android. Nothing is linked.

    compile_for_android.py COMPILE_COMMANDS [PART...]     only files with one of these in their names

Both architectures; the commands are those of the build for this machine, with another compiler. Says how
many sources were compiled, and ends with 1 when one was not.
"""

import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

TARGETS = ("aarch64-linux-android24", "x86_64-linux-android24")
STAND_INS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stand-ins", "ndk")
FOLDERS = ("/platforms/android/jni/", "/platforms/capi/", "/runtime/")


def headers(target):
    """glibc's, for C++ and C, of Debian on x86-64."""
    if target.startswith("x86_64"):
        root, own = "/usr/include", "/usr/include/x86_64-linux-gnu"
        folders = ["{c++}", own + "/c++/{version}", own, root]
    else:
        root = "/usr/aarch64-linux-gnu/include"
        folders = ["{c++}", "{c++}/aarch64-linux-gnu", root]
    version = max(os.listdir(root + "/c++"), key=int)
    words = ["-nostdinc++"]
    for folder in folders:
        words += ["-isystem", folder.replace("{c++}", root + "/c++/{version}").replace("{version}", version)]
    return words


def command(entry, target):
    """The command of the host's build, for the target, that writes nothing."""
    words = shlex.split(entry["command"])
    while "++" not in os.path.basename(words[0]) or "ccache" in words[0]:
        words.pop(0)  # a launcher
    kept, skip = [], 0
    for index, word in enumerate(words[1:]):
        if skip:
            skip -= 1
        elif word in ("-o", "-MF", "-MT"):
            skip = 1
        elif word == "-isystem" and "/jvm/" in words[index + 2]:
            skip = 1
        elif word not in ("-c", "-MD", "-Wno-psabi"):
            kept.append(word)
    # Before clang 16 the header has dot products only where the whole file may use them, not by function.
    dot = entry["file"].endswith("_neon_dot.cc")
    return [
        *("clang++", f"--target={target}", "-fsyntax-only", "-Werror", "-fPIC"),
        *("-isystem", "/usr/include/android/nativehelper", "-isystem", STAND_INS, *headers(target)),
        *(["-march=armv8.2-a+dotprod"] if dot and target.startswith("aarch64") else []),
        *kept,
    ]


def main():
    with open(sys.argv[1]) as file:
        entries = json.load(file)
    parts = sys.argv[2:] or [""]
    sources = [entry for folder in FOLDERS for entry in entries if folder in entry["file"]]
    sources = [entry for entry in sources if any(part in entry["file"] for part in parts)]
    jobs = [(entry, target) for entry in sources for target in TARGETS]
    if not jobs:
        sys.exit(f"no source of {', '.join(FOLDERS)} is in {sys.argv[1]}")

    def run(job):
        entry, target = job
        return subprocess.run(
            command(entry, target), cwd=entry["directory"], capture_output=True, text=True, check=False
        )

    failed = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for (entry, target), done in zip(jobs, pool.map(run, jobs)):
            if done.returncode != 0:
                failed += 1
                print(f"{target}: {entry['file']}\n{done.stderr[:2000]}", file=sys.stderr)
    print(f"{len(jobs) - failed} of {len(jobs)} sources compiled for {' and '.join(TARGETS)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
