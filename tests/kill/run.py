#!/usr/bin/env python3
"""kill -9 at random moments while Moka replaces a file, and what full and read-only disks say.

    run.py [--build DIR] [--times N] [--seed N]

Needs what `ninja -C DIR moka_cli moka_save_loop` builds; DIR is build/release if none is given.
A conversion and a program that saves sessions each replace a file and are killed N (500) times; the
file must have the old bytes or the new ones, and beside it nothing may lie but temporary files, which
the next run removes: at the end there are none. Then the disk is full (a file size limit and, as root, a small tmpfs) or read-only (as root): the error must name
the file and the reason, and the old file must be there. Prints counts; exit status 1 if anything is
wrong. Standard library only; Linux.
"""
import argparse
import contextlib
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests/data/hf/macchiato_width43_tied"
MODEL = ROOT / "models/stories.moka"
wrong = []


def check(condition, what):
    if not condition:
        wrong.append(what)
        print("WRONG:", what)


def parts(folder):
    """What an interrupted process may leave: never named as a model or a session is."""
    return [path for path in folder.iterdir()
            if ".moka-" in path.name]


def convert_command(args, output, weights):
    return [str(args.build / "moka"), "convert", str(SOURCE), "-o", str(output), "--weights", weights,
            "--force", "--threads", "1"]


def run(command, **more):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def must_run(command):
    result = run(command)
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {result.returncode}\n{result.stderr}")


def look(folder, target, allowed, counts, when):
    """What lies in the folder after a kill: `target` whole, and nothing else but temporary files."""
    now = target.read_bytes()
    names = [name for name, content in allowed.items() if content == now]
    check(len(names) == 1, f"{when}: {target.name} has {len(now)} bytes that are no whole file")
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    left = parts(folder)
    others = [p.name for p in folder.iterdir() if p != target and p not in left]
    check(not others, f"{when}: {others} lie beside {target.name}")
    check(len(left) <= 4, f"{when}: {len(left)} temporary files have gathered")
    counts["temporary file left"] = counts.get("temporary file left", 0) + bool(left)


def kill_convert(args, folder):
    target = folder / "model.moka"
    must_run(convert_command(args, target, "f32"))
    old = target.read_bytes()
    began = time.monotonic()
    must_run(convert_command(args, target, "int8"))
    seconds = time.monotonic() - began
    allowed = {"old": old, "new": target.read_bytes()}
    counts = {}
    for i in range(args.times):
        target.write_bytes(old)
        child = subprocess.Popen(convert_command(args, target, "int8"), stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        time.sleep(random.uniform(0, 1.1 * seconds))
        child.send_signal(signal.SIGKILL)
        child.wait()
        look(folder, target, allowed, counts, f"convert, kill {i}")
    must_run(convert_command(args, target, "int8"))
    check(target.read_bytes() == allowed["new"], "convert: a run after all kills gives other bytes")
    check(not parts(folder), f"convert: a run after all kills leaves {parts(folder)}")
    print(f"convert, killed {args.times} times within {1.1 * seconds * 1000:.0f} ms: {counts}")


def kill_save(args, folder):
    states = folder / "states"
    states.mkdir()
    target = folder / "work" / "chat.session"
    target.parent.mkdir()
    loop = str(args.build / "tests/moka_save_loop")
    must_run([loop, str(MODEL), str(states / "s"), "--states"])
    allowed = {name: (states / f"s.{name}").read_bytes() for name in "ab"}
    counts = {}
    for i in range(args.times):
        child = subprocess.Popen([loop, str(MODEL), str(target)], stdout=subprocess.PIPE)
        child.stdout.readline()
        time.sleep(random.uniform(0, 0.02))
        check(child.poll() is None, f"save, kill {i}: it ended by itself")
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        look(target.parent, target, allowed, counts, f"save, kill {i}")
    run([loop, str(MODEL), str(target), "--once"], check=True)
    check(not parts(target.parent), f"save: a run after all kills leaves {parts(target.parent)}")
    print(f"session file, killed {args.times} times while saving: {counts}")


def refuse(command, target, reasons, old, when, **more):
    """The command must fail, name the file and one of the reasons, and leave the old file alone."""
    result = run(command, **more)
    message = result.stderr.strip()
    check(result.returncode not in (0, None) and result.returncode > 0, f"{when}: exit status "
          f"{result.returncode}")
    check(str(target) in message and any(reason in message for reason in reasons),
          f"{when}: the message is: {message}")
    check(target.read_bytes() == old, f"{when}: the old file changed")
    check(not parts(target.parent), f"{when}: a temporary file is left")
    print(f"{when}: {message}")


def limit_files():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))


@contextlib.contextmanager
def tmpfs(options):
    point = pathlib.Path(tempfile.mkdtemp(prefix="moka-full-"))
    try:
        mounted = run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(point)]).returncode == 0
        yield point if mounted else None
        if mounted:
            run(["umount", str(point)])
    finally:
        shutil.rmtree(point, ignore_errors=True)


def refuse_both(args, folder, reasons, when, **more):
    old = b"what was there before"
    loop = str(args.build / "tests/moka_save_loop")
    for target, command in ((folder / "m.moka", convert_command(args, folder / "m.moka", "int8")),
                            (folder / "c.session", [loop, str(MODEL), str(folder / "c.session")])):
        if "read-only" not in when:
            target.write_bytes(old)
        refuse(command, target, reasons, old, f"{when}, {target.suffix}", **more)


def full_and_read_only(args, folder):
    refuse_both(args, folder, ["File too large"], "file size limit", preexec_fn=limit_files,
                restore_signals=False)
    with tmpfs("size=12k") as small:
        if small is None:
            print("full disk: skipped, a tmpfs cannot be mounted here")
        else:
            refuse_both(args, small, ["No space left on device"], "full disk")
    with tmpfs("size=1m") as frozen:
        if frozen is None:
            print("read-only disk: skipped, a tmpfs cannot be mounted here")
            return
        for name in ("m.moka", "c.session"):
            (frozen / name).write_bytes(b"what was there before")
        run(["mount", "-o", "remount,ro", str(frozen)])
        refuse_both(args, frozen, ["Read-only file system"], "read-only disk")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--times", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.build = args.build.resolve()
    random.seed(args.seed)
    for campaign in (kill_convert, kill_save, full_and_read_only):
        with tempfile.TemporaryDirectory(prefix="moka-kill-") as folder:
            campaign(args, pathlib.Path(folder))
    print(f"{len(wrong)} things wrong" if wrong else "nothing wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
