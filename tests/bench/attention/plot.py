#!/usr/bin/env python3
"""Plots what `moka_attention_bench --json FILE` wrote.

    plot.py FILE FOLDER        writes FOLDER/time.svg and FOLDER/memory.svg
"""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "peers"))
import log_plot  # noqa: E402  (it lies in the folder above)


def plot(document, title, y_name, value, exponent):
    lines, lengths = [], set()
    for method in document["methods"]:
        points = [(p["tokens"], value(p)) for p in method["points"]]
        lengths.update(n for n, _ in points)
        slope = method[exponent]
        name = method["name"].replace(" features", "").replace(", 4 rounds", "")
        if slope is not None:
            name += f": T^{slope:.2f}" if slope else ": constant"
        # Latent attention is the one that is asked about.
        lines.append(log_plot.Line(name, points, dashed="Latte" not in name))
    ticks = [(n, f"{n // 1024}k") for n in sorted(lengths)]
    return log_plot.line_plot(
        title, f"One head of {document['channels']} channels, {document['latents']} latents; "
        f"float32, 1 thread, kernels {document['isa']}", "tokens T", y_name, lines, ticks)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: plot.py FILE FOLDER")
    try:
        with open(sys.argv[1], encoding="ascii") as file:
            document = json.load(file)
    except (OSError, ValueError) as error:
        sys.exit(f"plot.py: {sys.argv[1]}: {error}")
    plots = {
        "time.svg": plot(document, "Time of attention against length", "milliseconds per sequence",
                         lambda p: 1e3 * p["seconds"], "time_exponent"),
        "memory.svg": plot(document, "Memory of attention against length", "MiB held by the head",
                           lambda p: p["bytes"] / 2 ** 20, "memory_exponent"),
    }
    for name, svg in plots.items():
        with open(os.path.join(sys.argv[2], name), "w", encoding="ascii") as file:
            file.write(svg)


if __name__ == "__main__":
    main()
