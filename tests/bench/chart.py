"""Draws the figures of tests/bench/run as an SVG: horizontal bars on a logarithmic axis, a group for each row.

It does not measure, and shows only rows that at least two columns have and whose unit is seconds.
"""

import math
import statistics
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, BAR, GAP, TOP = 860, 20, 110, 13, 30, 64
COLOURS = ["#e5533c", "#2b7de0", "#8f5fd0", "#2f9e6e", "#c98a12", "#7d8794"]
# A grey that reads on white and on black: a page's own colours are not known to a picture in it.
STYLE = """
text { font: 600 12px system-ui, sans-serif; fill: #768390; }
.quiet { font-weight: 400; }
line { stroke: #768390; stroke-opacity: 0.3; }
"""


def seconds(value):
    return f"{value * 1000:.1f} ms" if value < 0.1 else f"{value:.2f} s"


def box(x, y, width, height, colour):
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="2" fill="{colour}"/>'


def text(x, y, words, style=""):
    return f'<text class="{style}" x="{x:.1f}" y="{y}">{escape(words)}</text>'


def draw(record):
    """The SVG, as text, of what tests/bench/run records."""
    timed = [row for row in record["rows"] if row["unit"] == "s" and len(row["figures"]) > 1]
    medians_of = lambda row: {column: statistics.median(runs) for column, runs in row["figures"].items()}
    rows = [(row["name"], medians_of(row)) for row in timed]
    columns = list(dict.fromkeys(column for _, medians in rows for column in medians))
    colours = dict(zip(columns, COLOURS))
    every = [value for _, medians in rows for value in medians.values()] or [1]
    low, high = math.floor(math.log10(min(every))), math.ceil(math.log10(max(every)))
    across = (WIDTH - LEFT - RIGHT) / max(high - low, 1)

    body, y = [], TOP
    for name, medians in rows:
        body.append(text(LEFT, y + 12, name))
        y += 18
        for column, value in medians.items():
            length = (math.log10(value) - low) * across
            body.append(box(LEFT, y, f"{length:.1f}", BAR - 2, colours[column]))
            body.append(text(LEFT + length + 6, y + 10, seconds(value), "quiet"))
            y += BAR
        y += GAP - 18

    head, x = [], LEFT
    for column in columns:
        head += [box(x, 14, 12, 12, colours[column]), text(x + 18, 24, column)]
        x += 40 + 8 * len(column)
    for decade in range(low, high + 1):
        at = LEFT + (decade - low) * across
        head.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP - 10}" y2="{y}"/>')
        head.append(text(at, TOP - 16, f"{10.0**decade:g} s", "quiet"))
    size = f'width="{WIDTH}" height="{y + 10}" viewBox="0 0 {WIDTH} {y + 10}"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    return "\n".join([opening, f"<style>{STYLE}</style>", *head, *body, "</svg>\n"])
