"""The chart of a run: how many times faster than the standard library, as SVG."""
from __future__ import annotations

import html
import math

from benchmarks import peers

ROW_HEIGHT = 18
LABEL_WIDTH = 470
PLOT_WIDTH = 520
MARGIN = 30
FIRST, LAST = -1, 3  # powers of ten on the axis
LEGEND = "time of the standard library / time of mpfast (blue), of a peer (dot); red: what is aimed at"

_STYLE = """text { font: 12px sans-serif; fill: #24292f } .axis { stroke: #d0d7de } .one { stroke: #57606a }
.subject { fill: #1f6feb } .peer { fill: #9a6700 } .bar { stroke: #cf222e; stroke-width: 2 }"""


def position(ratio):
    """Horizontal position of a ratio on the logarithmic axis, in pixels."""
    power = min(max(math.log10(ratio), FIRST), LAST)
    return LABEL_WIDTH + PLOT_WIDTH * (power - FIRST) / (LAST - FIRST)


def svg(measured):
    """SVG text of ``[(row, results), ...]``: a bar for mpfast, a dot for each peer, a red tick for what is aimed at."""
    rows = [(row, results) for row, results in measured if any(result.ratio for result in results.values())]
    width, height = LABEL_WIDTH + PLOT_WIDTH + MARGIN, ROW_HEIGHT * len(rows) + 2 * MARGIN
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">',
             f"<style>{_STYLE}</style>", '<rect width="100%" height="100%" fill="white"/>', *_axis(height)]
    for i, (row, results) in enumerate(rows):
        parts += _line(row, results, MARGIN + i * ROW_HEIGHT)
    parts.append(f'<text x="{LABEL_WIDTH}" y="{height - 10}">{LEGEND}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _axis(height):
    for power in range(FIRST, LAST + 1):
        x = position(10.0 ** power)
        kind = "one" if power == 0 else "axis"
        yield f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{MARGIN - 6}" y2="{height - MARGIN}"/>'
        yield f'<text x="{x:.1f}" y="{MARGIN - 12}" text-anchor="middle">{10.0 ** power:g}x</text>'


def _line(row, results, top):
    middle = top + ROW_HEIGHT / 2
    yield f'<text x="{LABEL_WIDTH - 8}" y="{middle + 4}" text-anchor="end">{html.escape(row.title)}</text>'
    for name, result in results.items():
        if result.ratio is None or name == peers.REFERENCE:
            continue
        x, label = position(result.ratio.median), html.escape(f"{name}: {result.ratio.median:.3g}x")
        if name == peers.SUBJECT:
            left, right = sorted((position(1), x))
            yield (f'<rect class="subject" x="{left:.1f}" y="{top + 3}" width="{right - left:.1f}" '
                   f'height="{ROW_HEIGHT - 6}"><title>{label}</title></rect>')
        else:
            yield f'<circle class="peer" cx="{x:.1f}" cy="{middle}" r="4"><title>{label}</title></circle>'
    if row.bar is not None:
        x = position(row.bar)
        yield f'<line class="bar" x1="{x:.1f}" x2="{x:.1f}" y1="{top + 2}" y2="{top + ROW_HEIGHT - 2}"/>'
