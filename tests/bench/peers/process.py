"""Runs a program at high priority, and says what it took and what other programs took meanwhile."""
import os
import resource
import subprocess
import sys
import tempfile
import time

PRIORITY = -15  # keeps other processes off the CPUs measured on; caches and memory stay shared


class Failure(Exception):
    """A command failed; the words say which and why."""


def say(words):
    print(f"peers: {words}", file=sys.stderr, flush=True)


def busy_seconds():
    """CPU time that the machine has spent on anything, time that its host took away included."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds():
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


class Run:
    """What one process said and took."""

    def __init__(self, command, root=None):
        self.command = command
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            busy, own, start = busy_seconds(), own_seconds(), time.monotonic()
            try:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out,
                                           stderr=err, preexec_fn=lambda: self.prepare(root))
            except (OSError, subprocess.SubprocessError) as error:
                raise Failure(f"cannot start {' '.join(command)}: {error}") from error
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            self.seconds = time.monotonic() - start
            others = (busy_seconds() - busy) - (own_seconds() - own)
            self.out, self.err = (self.text(file) for file in (out, err))
        self.peak_bytes = usage.ru_maxrss * 1024
        # The clock of /proc/stat has steps of 10 ms: a short process says nothing about others.
        self.other_cpu = max(0.0, others / self.seconds) if self.seconds > 0.5 else None
        if process.returncode != 0:
            raise Failure(f"{' '.join(command)}\n  ended with {process.returncode}: "
                          + (self.err or self.out).strip()[-600:])

    @staticmethod
    def text(file):
        file.seek(0)
        return file.read().decode("utf-8", "replace")

    @staticmethod
    def prepare(root):
        # Linux weighs priorities inside a session only (autogroup), so the process gets its own.
        os.setsid()
        try:
            os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
            with open("/proc/self/autogroup", "w", encoding="ascii") as file:
                file.write(str(PRIORITY))
        except OSError:
            pass  # a kernel without autogroup, or no right to it
        if root:
            os.chroot(root)
            os.chdir("/")
