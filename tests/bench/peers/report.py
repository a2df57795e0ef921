#!/usr/bin/env python3
"""Makes table.md and depth.svg of measurements.

    report.py OUT RESULTS...

OUT is a folder; each RESULTS is one that run.sh made. With several, a group of measurements is
taken from the last of them that has it, so that one group can be measured again.
"""
import json
import os
import statistics
import sys

import log_plot

BUSY = 0.1  # CPUs taken by others, from which on a measurement is used only if there is no other
ORIGIN = 64  # where a logarithmic axis shows depth 0
MAIN = "macchiato-134m"


def read(folders):
    """(machine, lines). The machine is that of the last folder; machine["runs"] has those of all, with
    the groups that were taken from each."""
    groups, machine, runs = {}, None, []
    for folder in folders:
        found = {}
        with open(os.path.join(folder, "raw.jsonl"), encoding="ascii") as file:
            for line in map(json.loads, file):
                found.setdefault(line["group"], []).append(line)
        if "machine" not in found:
            sys.exit(f"report.py: {folder}/raw.jsonl does not say what machine it is of")
        machine = found.pop("machine")[0]
        for run in runs:
            run["groups"] = [group for group in run["groups"] if group not in found]
        runs.append(dict(machine, groups=list(found)))
        for lines in found.values():
            for line in lines:
                line["folder"] = folder
        groups.update(found)
    machine["runs"] = [run for run in runs if run["groups"]]
    return machine, [line for lines in groups.values() for line in lines]


class Series:
    """A speed by round, and whether other processes disturbed it."""

    def __init__(self, lines, value=lambda line: line["speed"]):
        self.rounds = {}
        for line in lines:
            new = (value(line), (line["other_cpu"] or 0) > BUSY)
            old = self.rounds.get(line["round"])
            # Two ways of one program in a round: the faster one counts.
            if old is None or new[0] > old[0]:
                self.rounds[line["round"]] = new

    def __bool__(self):
        return bool(self.rounds)

    def values(self):
        clean = [v for v, busy in self.rounds.values() if not busy]
        return clean or [v for v, _ in self.rounds.values()]

    def median(self):
        return statistics.median(self.values())

    def disturbed(self):
        return all(busy for _, busy in self.rounds.values())


class Ratio:
    """Of two series, round by round, so that what is compared ran in one minute."""

    def __init__(self, over, under, factor=1.0):
        both = [(over.rounds[r], under.rounds[r]) for r in over.rounds if r in under.rounds]
        clean = [(a[0], b[0]) for a, b in both if not a[1] and not b[1]]
        self.disturbed = bool(both) and not clean
        pairs = clean or [(a[0], b[0]) for a, b in both]
        self.values = sorted(factor * a / b for a, b in pairs)

    def median(self):
        return statistics.median(self.values)

    def words(self):
        return number(self.median()) + around(self.values) + (" *" if self.disturbed else "")


def number(value):
    """Three digits, or whole with commas."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def count(threads):
    return "1 thread" if threads == 1 else f"{threads} threads"


def around(values):
    """The ends of sorted values, where there are two."""
    return f" ({number(values[0])} to {number(values[-1])})" if len(values) > 1 else ""


class Table:
    def __init__(self, machine, lines):
        self.machine, self.lines = machine, lines
        self.threads = machine["threads"]
        self.rows = []

    # ---- choosing measurements ----

    def pick(self, value=None, **where):
        lines = [line for line in self.lines if all(line.get(k) == v for k, v in where.items())]
        return Series(lines, value) if value else Series(lines)

    def speed(self, group, model, threads, depth=0, kind="generate"):
        return self.pick(group=group, model=model, threads=threads, depth=depth, kind=kind)

    def weights_read(self, model):
        return self.machine["models"][model]["weights_read"]

    # ---- rows ----

    def row(self, what, moka, peer, ratio, goal, least=True, disturbed=False):
        """One row; `ratio` is a Ratio or a number. Without goal it is there for information."""
        value, words = (ratio.median(), ratio.words()) if isinstance(ratio, Ratio) else (
            ratio, number(ratio) + (" *" if disturbed else ""))
        met = ""
        if goal is not None:
            met = "yes" if (value >= goal if least else value <= goal) else "**no**"
        limit = "" if goal is None else f"{goal:g} or {'more' if least else 'less'}"
        self.rows.append((what, moka, peer, words, limit, met))

    def absent(self, what, goal):
        """A row that a group which did run lacks; of groups that did not run a note tells."""
        if goal is not None:
            self.rows.append((what, "not measured", "", "", f"{goal:g}", ""))

    def pair(self, what, group, moka, peers, threads, goal, depth=0, kind="generate",
             per_weight=False):
        """Moka against the fastest of some models."""
        what = f"{what}, {count(threads)}"
        ours = self.speed(group, moka, threads, depth, kind)
        theirs = [(self.speed(group, p, threads, depth, kind), p) for p in peers]
        theirs = [(s, p) for s, p in theirs if s and s.rounds.keys() & ours.rounds.keys()]
        if not theirs:
            self.absent(what, goal)
            return
        peer, name = max(theirs, key=lambda t: t[0].median())
        factor = self.weights_read(moka) / self.weights_read(name) if per_weight else 1.0
        self.row(what, f"{number(ours.median())} ({moka})", f"{number(peer.median())} ({name})",
                 Ratio(ours, peer, factor), goal)

    def forms(self):
        """(int8 or int4, llama.cpp's form of as many bits, threads)"""
        return [(w, f, t) for w, f in (("int8", "q8_0"), ("int4", "q4_0")) for t in self.threads]

    def generation(self):
        for mixer, name in (("Macchiato", MAIN), ("Latte", "latte-134m")):
            for weights, form, t in self.forms():
                self.pair(f"generate, {mixer}, {weights}", "speed", f"{name}-{weights}",
                          [f"llama-134m-{form}"], t, 1.3)

    def per_weight(self):
        for peer in ("mamba-130m", "rwkv7-190m"):
            for weights, form, t in self.forms():
                self.pair(f"generate, {weights}, per weight read", "speed", f"{MAIN}-{weights}",
                          [f"{peer}-{form}"], t, 2, per_weight=True)

    def prompts(self):
        for mixer, name in (("Macchiato", MAIN), ("Latte", "latte-134m")):
            for weights, _, t in self.forms():
                self.pair(f"prompt 512, {mixer}, {weights}", "speed", f"{name}-{weights}",
                          ["llama-134m-q8_0", "llama-134m-q4_0"], t, 3, kind="prompt")

    def at_depth(self, depth, group, goal):
        for weights, form, t in self.forms():
            self.pair(f"generate at depth {depth:,}, {weights}", group, f"{MAIN}-{weights}",
                      [f"llama-134m-{form}"], t, goal, depth)

    def small(self):
        for kind, words, goal in (("generate", "generate", 1.2), ("prompt", "prompt 512", 2)):
            for mixer in ("Macchiato", "Latte"):
                for t in self.threads:
                    self.pair(f"{words}, small {mixer}, int8", "small", f"{mixer.lower()}-15m-int8",
                              ["llama-15m-q8_0"], t, goal, kind=kind)

    def million(self):
        lines = [line for line in self.lines if line["group"] == "million" and
                 line["kind"] == "generate"]
        deep = [line for line in lines if line["depth"] == 1_000_000][-1]
        start = statistics.median(line["speed"] for line in lines if line["depth"] == 0)
        self.row(f"generate at token 1,000,000 against token 1, {count(deep['threads'])}",
                 f"{number(deep['speed'])} ({deep['model']})", f"itself: {number(start)}",
                 deep["speed"] / start, 0.98,
                 disturbed=any((line["other_cpu"] or 0) > BUSY for line in lines))

    def sessions(self):
        for weights, _, t in self.forms():
            goal = 5 if weights == "int8" else None
            many, one = (self.pick(group="sessions", model=f"{MAIN}-{weights}", threads=t,
                                   sessions=n) for n in (16, 1))
            what = f"16 sessions against one, {weights}, {count(t)}"
            if many and one:
                self.row(what, number(many.median()), f"itself: {number(one.median())}",
                         Ratio(many, one), goal)
            else:
                self.absent(what, goal)

    def start(self):
        for weights, form, t in self.forms():
            goal = 3 if weights == "int8" else None
            ours, theirs = (self.pick(value=lambda line: line["seconds"], group="start",
                                      model=m, threads=t)
                            for m in (f"{MAIN}-{weights}", f"llama-134m-{form}"))
            what = f"start to exit with one token, {weights}, {count(t)}"
            if ours and theirs:
                self.row(what, f"{1e3 * ours.median():.1f} ms", f"{1e3 * theirs.median():.1f} ms",
                         Ratio(theirs, ours), goal)
            else:
                self.absent(what, goal)
        for weights, goal in (("int8", 1.15), ("int4", None)):
            lines = [line for line in self.lines if line["group"] == "start" and
                     line["model"] == f"{MAIN}-{weights}"]
            if lines:
                peak = statistics.median(line["peak_bytes"] for line in lines)
                size = lines[0]["file_bytes"]
                self.row(f"peak resident memory against the file, {weights}",
                         f"{peak / 1e6:.1f} MB", f"file: {size / 1e6:.1f} MB", peak / size, goal,
                         least=False)

    def limit(self):
        """The limit is the best of all ways and rounds; the share is of the median speed."""
        for weights, _, t in self.forms():
            model, what = f"{MAIN}-{weights}", f"share of the memory limit, {weights}, {count(t)}"
            limits = [line for line in self.lines if line["group"] == "limit" and
                      line["model"] == model and line["threads"] == t and line["kind"] == "limit"]
            ours = self.speed("limit", model, t)
            if not limits or not ours:
                self.absent(what, 0.8)
                continue
            best = max(limits, key=lambda line: line["speed"])
            size = best["bytes_per_token"]
            rate = ours.median() * size["all"]
            part = f" ({size['weights'] * 1e-6:.1f} of them weights)" if size["weights"] else ""
            words = (f"{number(ours.median())} tokens/s of {size['all'] * 1e-6:.1f} MB{part}: "
                     f"{rate * 1e-9:.1f} GB/s")
            self.row(what, words, f"limit: {best['speed'] * 1e-9:.1f} GB/s", rate / best["speed"],
                     0.8, disturbed=ours.disturbed())

    def make_rows(self):
        """Fills `rows`; returns the groups that were not measured."""
        parts = {"speed": (self.generation, self.per_weight, self.prompts),
                 "depth": (lambda: self.at_depth(4096, "depth", 6),),
                 "deep": (lambda: self.at_depth(32768, "deep", 80),),
                 "small": (self.small,), "million": (self.million,), "sessions": (self.sessions,),
                 "start": (self.start,), "limit": (self.limit,)}
        measured = {line["group"] for line in self.lines}
        for group, makers in parts.items():
            for make in makers if group in measured else ():
                make()
        return [group for group in parts if group not in measured]

    def speeds(self):
        """Every speed, in tokens per second: median, least and most of the rounds."""
        keys = sorted({(line["model"], line["depth"], line["threads"]) for line in self.lines
                       if line["kind"] in ("prompt", "generate") and line["group"] != "limit"})
        for model, depth, threads in keys:
            cells = []
            for kind in ("prompt", "generate"):
                if kind == "prompt" and depth:  # fewer tokens are read at once there
                    cells.append("")
                    continue
                groups = ("speed", "small") if depth == 0 else ("depth", "deep", "million")
                found = [self.speed(g, model, threads, depth, kind) for g in groups]
                values = sorted(v for s in found if s for v in s.values())
                cells.append(number(statistics.median(values)) + around(values) if values else "")
            if any(cells):
                yield (model, f"{depth:,}", str(threads), *cells)


def markdown(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def head(m):
    gib = m["memory_bytes"] / 2 ** 30
    caches = "".join(f"{name.upper()} {m[name]}, " for name in ("l2", "l3") if m[name])
    runs = m["runs"]
    measured = [f"Measured {runs[0]['time']}, by `tests/bench/peers/{runs[0]['run']}`."]
    if len(runs) > 1:
        measured = ["Measured in these runs:", ""] + [
            f"- {run['time']}, commit {run['commit']}, by `tests/bench/peers/{run['run']}`: "
            f"{', '.join(run['groups'])}" for run in runs]
    return "\n".join(measured + [
        "",
        f"- machine: {m['cpu']}, {m['cpus']} CPUs, {caches}{gib:.0f} GiB, Linux {m['kernel']}",
        f"- {m['moka']}, commit {m['commit']}",
        f"- {m['llama']}, CPU code {m['llama_backend']}",
        "- commands: `moka bench MODEL --threads T --depth D --prompt P -n N --repeat R --json`; "
        "`llama-bench -m MODEL -t T -p P -n N -d D -r R -fa F`; raw.jsonl has each one whole", ""])


NOTES = """
Speeds are tokens per second. A ratio is the median over rounds (least to most), each of
measurements seconds apart; `*`: other processes used the CPUs. At a depth, llama.cpp's is the
better of flash attention on and off. "Per weight read" multiplies a speed by the weights that a
token reads. The memory limit is the best of many ways to read as many bytes again and again, caches
included.
"""


def plot(table):
    threads = max(table.threads)
    names = {f"{MAIN}-int8": "Moka int8", f"{MAIN}-int4": "Moka int4",
             "llama-134m-q8_0": "llama.cpp Q8_0", "llama-134m-q4_0": "llama.cpp Q4_0",
             "mamba-130m-q8_0": "mamba 130M Q8_0", "rwkv7-190m-q8_0": "rwkv7 190M Q8_0"}
    lines, depths = [], set()
    for model, name in names.items():
        points = []
        for depth, group in ((0, "speed"), (512, "depth"), (4096, "depth"), (32768, "deep"),
                             (1_000_000, "million")):
            series = table.speed(group, model, threads, depth)
            if series:
                points.append((depth or ORIGIN, series.median()))
                depths.add(depth)
        lines.append(log_plot.Line(name, points, dashed="Moka" not in name))
    if not depths:
        return None
    ticks = [(depth or ORIGIN, f"{depth:,}") for depth in sorted(depths)]
    return log_plot.line_plot(
        "Speed of generation against depth",
        f"Macchiato against Llama, 110 M weights read per token each; {count(threads)}, "
        f"{table.machine['cpu']}",
        "tokens read before", "tokens per second", lines, ticks)


def write(path, content):
    with open(path + ".part", "w", encoding="ascii") as file:
        file.write(content)
    os.replace(path + ".part", path)


def main():
    if len(sys.argv) < 3:
        sys.exit("usage: report.py OUT RESULTS...")
    out, folders = sys.argv[1], sys.argv[2:]
    try:
        machine, lines = read(folders)
    except (OSError, ValueError) as error:
        sys.exit(f"report.py: {error}")
    table = Table(machine, lines)
    missing = table.make_rows()
    text = head(machine) + "\n" + markdown(
        ("what", "Moka", "peer", "ratio", "goal", "met"), table.rows) + NOTES + (
            f"\nNot measured here: {', '.join(missing)}.\n" if missing else "")
    speeds = list(table.speeds())
    if speeds:
        text += "\n" + markdown(("model", "depth", "threads", "prompt 512", "generate"), speeds)
    write(os.path.join(out, "table.md"), text)
    svg = plot(table)
    if svg:
        write(os.path.join(out, "depth.svg"), svg)
    print(text)


if __name__ == "__main__":
    main()
