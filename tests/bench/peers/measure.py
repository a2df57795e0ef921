#!/usr/bin/env python3
"""Measures Moka and llama.cpp in turns; run.sh calls it, report.py makes the table of it.

Every measurement is a line of JSON in RESULTS/raw.jsonl as soon as it is there. A group of commands
is run round by round (A B C A B C ...), so that what is compared ran within seconds. `other_cpu`
says how many CPUs' worth of time all other processes took meanwhile.
"""
import argparse
import json
import os
import platform
import sys
import time

from process import Failure, Run, say

BUSY = 0.05  # of a CPU taken by others, from which on a measurement is repeated ...
RETRIES = 20  # ... so often in all: on a machine that stays busy it would not help
LONG = 20  # seconds, from which on a command is not repeated


def find_objects(value):
    """All JSON objects in a document, outer ones first."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(
            value, list) else ():
        yield from find_objects(inner)


def spread(value):
    """(median, [samples or least, median, most]) of what a program says about a speed."""
    if isinstance(value, dict):
        return value["median"], [value[k] for k in ("min", "median", "max") if k in value]
    return value, [value]


def moka_speed(document, key, **where):
    """The speed `key` in the first object of the document that has it and agrees with `where`."""
    for found in find_objects(document):
        if key in found and all(found.get(k) == v for k, v in where.items()):
            return spread(found[key])
    raise Failure(f"`moka bench --json` has no {key} of {where}; what does it call it now?")


def bytes_per_token(document):
    """What `moka bench` says that a token reads: of weights and state, and of weights alone."""
    for found in find_objects(document):
        if "bytes_read_per_token" in found:
            return {"all": found["bytes_read_per_token"],
                    "weights": found.get("weight_bytes_read_per_token")}
    raise Failure("`moka bench --json` has no bytes_read_per_token")


class Lab:
    def __init__(self, options):
        self.o = options
        self.root = os.path.join(options.dir, "sid")
        self.raw = open(os.path.join(options.results, "raw.jsonl"), "w", encoding="ascii")
        self.group, self.round = "", 0
        self.warmed, self.retries = set(), RETRIES

    # ---- programs ----

    def run(self, command, root=None):
        """Runs a command, again if others disturbed it and retries are left; report.py judges."""
        while True:
            run = Run(command, root)
            if (run.other_cpu or 0) <= BUSY or self.retries == 0 or run.seconds > LONG:
                return run
            self.retries -= 1
            say(f"other processes took {run.other_cpu:.2f} CPUs, again: {' '.join(command[:4])} ..."
                + ("" if self.retries else " (from here on such measurements are kept)"))

    def write(self, run, **fields):
        line = {"group": self.group, "round": self.round, **fields,
                "seconds": round(run.seconds, 4), "peak_bytes": run.peak_bytes,
                "other_cpu": run.other_cpu, "command": " ".join(run.command)}
        self.raw.write(json.dumps(line) + "\n")
        self.raw.flush()

    def warm(self, path):
        """Reads a model once, so that no measurement waits for the disk."""
        if path in self.warmed:
            return
        with open(path, "rb") as file:
            while file.read(1 << 20):
                pass
        self.warmed.add(path)

    def gguf(self, model):
        self.warm(f"{self.root}/models/{model}.gguf")
        return f"/models/{model}.gguf"

    def moka_file(self, model):
        path = f"{self.o.dir}/moka/{model}.moka"
        self.warm(path)
        return path

    def has(self, model):
        return os.path.exists(f"{self.o.dir}/moka/{model}.moka")

    def llama(self, model, threads, depth=0, prompt=0, tokens=0, repeat=2, flash="auto"):
        """llama-bench, for each thread count and kind; it fills the depth with the first count.
        Returns the greatest speed."""
        command = ["llama-bench", "-m", self.gguf(model), "-t", ",".join(map(str, threads)),
                   "-p", str(prompt), "-n", str(tokens), "-d", str(depth), "-r", str(repeat),
                   "-fa", flash, "-o", "jsonl"]
        run = self.run(command, self.root)
        lines = [json.loads(line) for line in run.out.splitlines() if line.startswith("{")]
        if not lines:
            raise Failure(f"{' '.join(command)} wrote no measurement: {run.err.strip()[-600:]}")
        speeds = []
        for line in lines:
            kind = "prompt" if line["n_prompt"] else "generate"
            samples = sorted(line["samples_ts"])
            middle = (samples[len(samples) // 2] + samples[(len(samples) - 1) // 2]) / 2
            self.write(run, program="llama.cpp", model=model, threads=line["n_threads"],
                       depth=depth, kind=kind, flash=flash, speed=middle, samples=samples)
            speeds.append(middle)
        return max(speeds)

    def moka(self, model, threads, depth=0, prompt=512, tokens=128, repeat=3):
        command = [self.o.moka, "bench", self.moka_file(model), "--threads", str(threads),
                   "--depth", str(depth), "--prompt", str(prompt), "-n", str(tokens),
                   "--repeat", str(repeat), "--json"]
        run = self.run(command)
        document = json.loads(run.out)
        for kind, key in (("prompt", "prefill"), ("generate", "decode")):
            middle, samples = moka_speed(document, key + "_tokens_per_second", depth=depth)
            self.write(run, program="moka", model=model, threads=threads, depth=depth, kind=kind,
                       speed=middle, samples=samples, isa=document.get("isa"))
        return document

    # ---- groups ----

    def rounds(self, group, count):
        say(f"{group}: {count} round{'s' if count > 1 else ''}")
        self.group = group
        for self.round in range(count):
            yield self.round

    def moka_models(self, size, mixers=("macchiato", "latte")):
        names = [f"{m}-{size}-{w}" for m in mixers for w in ("int8", "int4")]
        return [name for name in names if self.has(name)]

    def speed(self):
        """Prompts and generation at depth 0, all programs in turn."""
        for _ in self.rounds("speed", 3 if self.o.quick else 5):
            for t in self.o.threads:
                for weights, quantized in (("int8", "q8_0"), ("int4", "q4_0")):
                    self.llama(f"llama-134m-{quantized}", [t], prompt=512, tokens=128)
                    for mixer in ("macchiato", "latte"):
                        if self.has(f"{mixer}-134m-{weights}"):
                            self.moka(f"{mixer}-134m-{weights}", t)
                    # With the prompt, too: behind so much arithmetic a CPU may run at a lower clock.
                    self.llama(f"mamba-130m-{quantized}", [t], prompt=512, tokens=64)
                    self.llama(f"rwkv7-190m-{quantized}", [t], prompt=512, tokens=64)

    def small(self):
        """The same for models that the caches hold, where the cost of a step itself decides."""
        for _ in self.rounds("small", 5 if self.o.quick else 9):
            for t in self.o.threads:
                self.llama("llama-15m-q8_0", [t], prompt=512, tokens=128, repeat=5)
                for model in self.moka_models("15m"):
                    self.moka(model, t, repeat=5)

    def at_depth(self, depth, tokens, others):
        threads = sorted(self.o.threads, reverse=True)  # the first one fills the context
        ways = ("off", "on")
        if depth > 10_000:  # to fill such a context takes minutes, and four times those of its half
            speeds = {flash: self.llama("llama-134m-q8_0", threads, depth=depth // 4,
                                        tokens=tokens, flash=flash) for flash in ways}
            ways = (max(speeds, key=speeds.get),)
        for weights, quantized in (("int8", "q8_0"), ("int4", "q4_0")):
            for flash in ways:
                self.llama(f"llama-134m-{quantized}", threads, depth=depth, tokens=tokens,
                           flash=flash)
            if self.has(f"macchiato-134m-{weights}"):
                for t in threads:
                    self.moka(f"macchiato-134m-{weights}", t, depth=depth, prompt=64, tokens=128)
        for model in others:
            self.llama(model, threads, depth=depth, tokens=tokens)

    def depth(self):
        for index in self.rounds("depth", 1 if self.o.quick else 2):
            for depth in (512, 4096):
                self.at_depth(depth, 32,
                              ("mamba-130m-q8_0", "rwkv7-190m-q8_0") if index == 0 else ())

    def deep(self):
        say("deep: llama.cpp reads 32,768 tokens twice, about half an hour on two cores")
        for _ in self.rounds("deep", 1):
            self.at_depth(32768, 8, ("mamba-130m-q8_0", "rwkv7-190m-q8_0"))

    def million(self):
        """Generation behind a million tokens between two measurements at the start."""
        model = "macchiato-15m-int8" if self.o.quick else "macchiato-134m-int8"
        t = max(self.o.threads)
        for _ in self.rounds("million", 1):
            for depth in (0, 1_000_000, 0):
                self.moka(model, t, depth=depth, prompt=64, tokens=128, repeat=25)

    def sessions(self):
        if "--sessions" not in Run([self.o.moka, "bench", "--help"]).out:
            say("sessions: left out, this moka has no `bench --sessions`")
            return
        for _ in self.rounds("sessions", 3):
            for model in self.moka_models("134m", ("macchiato",)):
                for t in self.o.threads:
                    for count in (1, 16):
                        self.moka_sessions(model, t, count)

    def moka_sessions(self, model, threads, count):
        command = [self.o.moka, "bench", self.moka_file(model), "--threads", str(threads),
                   "--sessions", str(count), "--depth", "0", "--prompt", "64", "-n", "64",
                   "--repeat", "3", "--json"]
        run = self.run(command)
        document = json.loads(run.out)
        middle, samples = moka_speed(document, "total_tokens_per_second", sessions=count)
        self.write(run, program="moka", model=model, threads=threads, depth=0, kind="sessions",
                   sessions=count, speed=middle, samples=samples)

    def start(self):
        """Whole processes, from start to exit with one token; the first round warms the caches."""
        pairs = [(f"macchiato-134m-{w}", f"llama-134m-{q}") for w, q in
                 (("int8", "q8_0"), ("int4", "q4_0")) if self.has(f"macchiato-134m-{w}")]
        for index in self.rounds("start", 1 + (7 if self.o.quick else 15)):
            for t in self.o.threads:
                for moka, llama in pairs:
                    runs = [
                        ("llama.cpp", llama, Run(
                            ["llama-completion", "-m", self.gguf(llama), "-p", "a", "-n", "1",
                             "-c", "512", "-t", str(t), "--no-warmup", "-no-cnv", "--ignore-eos"],
                            self.root)),
                        ("moka", moka, Run(
                            [self.o.moka, "run", self.moka_file(moka), "-p", "a", "-n", "1",
                             "--greedy", "--threads", str(t)])),
                    ]
                    for program, model, run in runs if index > 0 else ():
                        self.write(run, program=program, model=model, threads=t, kind="start",
                                   file_bytes=self.size(program, model))

    def size(self, program, model):
        if program == "moka":
            return os.path.getsize(self.moka_file(model))
        return os.path.getsize(f"{self.root}/models/{model}.gguf")

    def limit(self):
        """Generation, then reading as many bytes as a token reads."""
        for _ in self.rounds("limit", 2 if self.o.quick else 4):
            for model in self.moka_models("134m", ("macchiato",)):
                for t in self.o.threads:
                    size = bytes_per_token(self.moka(model, t))
                    read = Run([self.o.read_limit, str(t), str(size["all"])])
                    ways = [json.loads(line) for line in read.out.splitlines()]
                    best = max(ways, key=lambda way: way["best_gb_per_s"])
                    self.write(read, program="read_limit", model=model, threads=t, kind="limit",
                               speed=best["best_gb_per_s"] * 1e9, way=best, bytes_per_token=size)


GROUPS = ("speed", "small", "depth", "start", "sessions", "limit", "million", "deep")


def machine(lab):
    """The first line: what was measured on and with."""
    cpu = {}
    for line in Run(["lscpu"]).out.splitlines():
        key, _, value = line.partition(":")
        cpu[key.strip()] = value.strip()
    packages = Run(["dpkg-query", "-W", "-f", "${Package} ${Version}\n", "llama.cpp"], lab.root)
    listed = Run(["llama-bench", "--list-devices"], lab.root)
    backend = [line for line in (listed.err + listed.out).splitlines() if "CPU backend" in line]
    info = {
        "group": "machine", "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cpu": f"{cpu.get('Model name', platform.processor())} (family {cpu.get('CPU family', '?')}"
               f" model {cpu.get('Model', '?')})", "cpus": os.cpu_count(),
        "l2": cpu.get("L2 cache", cpu.get("L2", "")), "l3": cpu.get("L3 cache", cpu.get("L3", "")),
        "kernel": platform.release(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "llama": packages.out.strip(),
        "llama_backend": os.path.basename(backend[0].split()[-1]) if backend else "unknown",
        "moka": Run([lab.o.moka, "--version"]).out.strip().splitlines()[0], "commit": lab.o.commit,
        "quick": lab.o.quick, "threads": lab.o.threads, "run": lab.o.command,
        "models": {},
    }
    for model in lab.moka_models("15m") + lab.moka_models("134m"):
        name = model.rsplit("-", 1)[0]
        with open(f"{lab.o.dir}/moka/{name}/facts.json", encoding="ascii") as file:
            info["models"][model] = dict(json.load(file), file_bytes=lab.size("moka", model))
    for name in os.listdir(f"{lab.root}/models"):
        if not name.endswith(".gguf") or "-f16" in name:
            continue
        facts = f"{lab.root}/models/{name[:-5].rsplit('-', 1)[0]}-f16.json"
        with open(facts, encoding="ascii") as file:
            info["models"][name[:-5]] = dict(json.load(file), file_bytes=os.path.getsize(
                f"{lab.root}/models/{name}"))
    lab.raw.write(json.dumps(info) + "\n")
    lab.raw.flush()


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    for name in ("--dir", "--results", "--moka", "--read-limit", "--commit", "--command"):
        p.add_argument(name, required=True)
    p.add_argument("--threads", required=True, type=lambda t: [int(n) for n in t.split(",")])
    p.add_argument("--only", default="", help="groups, separated by commas: " + ",".join(GROUPS))
    p.add_argument("--quick", action="store_true")
    options = p.parse_args()
    chosen = options.only.split(",") if options.only else [
        g for g in GROUPS if not (options.quick and g == "deep")]
    for group in chosen:
        if group not in GROUPS:
            p.error(f"--only: '{group}' is no group; there are {', '.join(GROUPS)}")

    lab = Lab(options)
    try:
        machine(lab)
    except Failure as failure:
        sys.exit(f"peers: measuring the machine failed: {failure}")
    failed = []
    for group in chosen:
        try:
            getattr(lab, group)()
        except (Failure, OSError, ValueError, KeyError) as failure:
            # What the other groups say is still worth having.
            say(f"{group} failed: {failure if isinstance(failure, Failure) else repr(failure)}")
            failed.append(group)
    if failed:
        sys.exit(f"peers: these groups failed, the reasons are above: {', '.join(failed)}")


if __name__ == "__main__":
    main()
