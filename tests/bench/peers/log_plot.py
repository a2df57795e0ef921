"""Plots of measurements as SVG: lines on logarithmic axes, named where they end.

Only text goes in and comes out, nothing outside of the standard library is needed, and the same
input gives the same bytes. The page is light, or dark where the viewer asks for that.
"""
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 880, 480
LEFT, RIGHT, TOP, BOTTOM = 76, 240, 66, 56  # around what the axes enclose; names need the right
LABEL_STEP = 17  # least distance of two names, pixels

# Of each line in turn: on light ground, on dark ground. Blue and orange first: they stay apart for
# most eyes that confuse colours; dashes and names tell the rest.
COLOURS = [("#1d4ed8", "#7aa2ff"), ("#c2410c", "#fb923c"), ("#047857", "#34d399"),
           ("#7e22ce", "#c084fc"), ("#b91c1c", "#f87171"), ("#0e7490", "#22d3ee"),
           ("#a16207", "#facc15"), ("#475569", "#cbd5e1")]

STYLE = """
text { font: 13px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2937 }
.page { fill: #ffffff }
.title { font-size: 17px; font-weight: 600 }
.small { fill: #4b5563 }
.grid { stroke: #d1d5db; stroke-width: 1 }
.frame { stroke: #9ca3af; fill: none }
"""
DARK = """
.page { fill: #0d1117 }
text { fill: #e5e7eb }
.small { fill: #b6bdc8 }
.grid { stroke: #374151 }
.frame { stroke: #6b7280 }
"""


class Line:
    """A named line through (x, y) points; both above 0."""

    def __init__(self, name, points, dashed=False):
        self.name, self.points, self.dashed = name, sorted(points), dashed


def decades(low, high):
    """1, 2 and 5 times powers of ten from low to high; only powers where these are many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if last - first <= 3 else (1,)
    ticks = [s * 10.0 ** e for e in range(first, last + 1) for s in steps]
    return [t for t in ticks if low * 0.999 <= t <= high * 1.001]


def short(value):
    """1500000 as 1.5M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def spread_labels(places, low, high):
    """Moves wanted heights apart by LABEL_STEP, inside low ... high where that is possible."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    out = list(places)
    for before, i in zip([None] + order, order):
        floor = low if before is None else out[before] + LABEL_STEP
        out[i] = max(out[i], floor)
    ceiling = high
    for i in reversed(order):
        out[i] = min(out[i], ceiling)
        ceiling = out[i] - LABEL_STEP
    return out


class Scale:
    """Maps a logarithmic range to pixels."""

    def __init__(self, low, high, begin, end):
        self.low, self.span = math.log(low), math.log(high) - math.log(low)
        self.begin, self.end = begin, end

    def __call__(self, value):
        return self.begin + (self.end - self.begin) * (math.log(value) - self.low) / self.span


def text(x, y, words, anchor="start", css="", extra=""):
    css = f' class="{css}"' if css else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f"<text {place}{css}{extra}>{escape(words)}</text>"


def bounds(values):
    low, high = min(values), max(values)
    return low / 1.15, high * 1.15


def draw_axes(x, y, x_ticks, y_ticks, x_name, y_name):
    left, right, top, bottom = x.begin, x.end, y.end, y.begin
    out = []
    for value, name in x_ticks:
        at = x(value)
        out.append(f'<line class="grid" x1="{at:.1f}" y1="{top}" x2="{at:.1f}" y2="{bottom}"/>')
        out.append(text(at, bottom + 19, name, "middle", "small"))
    for value, name in y_ticks:
        at = y(value)
        out.append(f'<line class="grid" x1="{left}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}"/>')
        out.append(text(left - 8, at + 4.5, name, "end", "small"))
    out.append(f'<rect class="frame" x="{left}" y="{top}" width="{right - left}" '
               f'height="{bottom - top}"/>')
    out.append(text((left + right) / 2, bottom + 42, x_name, "middle", "small"))
    middle = (top + bottom) / 2
    out.append(text(20, middle, y_name, "middle", "small", f' transform="rotate(-90 20 {middle})"'))
    return out


def draw_lines(lines, x, y):
    names = spread_labels([y(line.points[-1][1]) for line in lines], y.end + 6, y.begin - 2)
    out = []
    for i, (line, label) in enumerate(zip(lines, names)):
        css = f"c{i % len(COLOURS)}"
        dash = ' stroke-dasharray="6 4"' if line.dashed else ""
        points = [(x(a), y(b)) for a, b in line.points]
        out.append(f'<polyline class="{css}" fill="none" stroke-width="2"{dash} points="' +
                   " ".join(f"{a:.1f},{b:.1f}" for a, b in points) + '"/>')
        out += [f'<circle class="{css} {css}f" cx="{a:.1f}" cy="{b:.1f}" r="3"/>'
                for a, b in points]
        a, b = points[-1]
        if abs(b - label) > 3 or a < x.end - 40:  # the name is not where the line ends
            out.append(f'<line class="{css}" stroke-opacity="0.45" x1="{a + 5:.1f}" y1="{b:.1f}" '
                       f'x2="{x.end + 8}" y2="{label:.1f}"/>')
        out.append(text(x.end + 12, label + 4.5, line.name, css=css + "f"))
    return out


def line_plot(title, subtitle, x_name, y_name, lines, x_ticks=None):
    """An SVG document. x_ticks: (value, name) pairs; without them decades."""
    lines = [line for line in lines if line.points]
    if not lines:
        raise ValueError("a plot needs at least one line with points")
    xs = [a for line in lines for a, _ in line.points]
    ys = [b for line in lines for _, b in line.points]
    if min(xs) <= 0 or min(ys) <= 0:
        raise ValueError("logarithmic axes need numbers above 0")
    x_range, y_range = bounds(xs), bounds(ys)
    x = Scale(*x_range, LEFT, WIDTH - RIGHT)
    y = Scale(*y_range, HEIGHT - BOTTOM, TOP)
    if x_ticks is None:
        x_ticks = [(t, short(t)) for t in decades(*x_range)]
    y_ticks = [(t, short(t)) for t in decades(*y_range)]

    light = "".join(f".c{i} {{ stroke: {a} }} .c{i}f {{ fill: {a} }}\n"
                    for i, (a, _) in enumerate(COLOURS))
    dark = "".join(f".c{i} {{ stroke: {b} }} .c{i}f {{ fill: {b} }}\n"
                   for i, (_, b) in enumerate(COLOURS))
    return "\n".join(
        [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
         f'width="{WIDTH}" height="{HEIGHT}" role="img">',
         f"<title>{escape(title)}</title>",
         f"<style>{STYLE}{light}@media (prefers-color-scheme: dark) {{{DARK}{dark}}}</style>",
         f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>',
         text(LEFT, 28, title, css="title"), text(LEFT, 50, subtitle, css="small")] +
        draw_axes(x, y, x_ticks, y_ticks, x_name, y_name) + draw_lines(lines, x, y) +
        ["</svg>", ""])
