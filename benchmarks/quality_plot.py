"""docs/images/quality.svg: bits per weight against PSNR, one labelled point a type, readable on light and dark pages.

Plain SVG, so that a viewer that knows no style sheets still shows dark marks on a white card.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape

from wan_gguf.benchmarks.results import Results

WIDTH, HEIGHT = 900, 560
LEFT, RIGHT, TOP, BOTTOM = 76, 24, 64, 64  # margins around the axes
LABEL_PX, LABEL_HEIGHT_PX = 7.8, 14  # of a character and of a line at the labels' size
POINT_PX = 5
WHOLE = 15  # bits per weight from which a type is shown as a line: F16 and BF16 would squeeze all others
FAMILIES = {"K-quants": "k", "IQ types": "iq", "simple types": "simple"}
STYLE = """
.card { fill: #ffffff; stroke: #d0d7de } .text { fill: #1f2328 } .soft { fill: #59636e }
.grid { stroke: #d8dee4 } .axis { stroke: #59636e } .front { stroke: #8c959f; fill: none; stroke-dasharray: 2 4 }
.k { fill: #0969da; stroke: #0969da } .iq { fill: #1a7f37; stroke: #1a7f37 } .simple { fill: #bc4c00; stroke: #bc4c00 }
.whole { stroke: #8250df; stroke-dasharray: 6 4 } .wholetext { fill: #8250df }
@media (prefers-color-scheme: dark) {
.card { fill: #0d1117; stroke: #30363d } .text { fill: #e6edf3 } .soft { fill: #9198a1 }
.grid { stroke: #262c36 } .axis { stroke: #9198a1 } .front { stroke: #656c76 }
.k { fill: #4493f8; stroke: #4493f8 } .iq { fill: #3fb950; stroke: #3fb950 } .simple { fill: #f0883e; stroke: #f0883e }
.whole { stroke: #ab7df8 } .wholetext { fill: #ab7df8 }
}
"""


@dataclass(frozen=True)
class Box:
    """A rectangle on the picture, by two corners."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        """Whether they have a point in common."""
        apart = self.right < other.left or other.right < self.left or self.bottom < other.top or other.bottom < self.top
        return not apart


@dataclass(frozen=True)
class Axes:
    """Where numbers lie on the picture: bits from `low` to `high`, decibels from `bottom` to `top`."""

    low: float
    high: float
    bottom: float
    top: float

    def x(self, bits: float) -> float:
        return LEFT + (bits - self.low) / (self.high - self.low) * (WIDTH - LEFT - RIGHT)

    def y(self, db: float) -> float:
        return HEIGHT - BOTTOM - (db - self.bottom) / (self.top - self.bottom) * (HEIGHT - TOP - BOTTOM)


def family_of(name: str) -> str:
    """Q4_K_M -> "k"; IQ4_XS -> "iq"; Q4_0 -> "simple"."""
    return "iq" if name.startswith("IQ") else "k" if "_K" in name else "simple"


def plot(models: Mapping[str, Results]) -> str:
    """The SVG; models without a difference from F16 are left out."""
    shown = {name: record for name, record in models.items() if record["latent_error"]["mean"] > 0}
    points = {name: record for name, record in shown.items() if record["bits_per_weight"] < WHOLE}
    axes = _axes(shown.values(), points.values())
    parts = [*_frame(axes), *_front(points, axes)]
    for name, record in shown.items():
        if name not in points:
            parts += _whole(name, record, axes)
    for name, record in points.items():
        parts += _point(name, record, axes)
    parts += _labels(points, axes)
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="13">\n'
        f"<title>Quality of each quant type against its size</title>\n<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


def _axes(shown: Iterable[Results], points: Iterable[Results]) -> Axes:
    """Whole bits and steps of five decibels around everything."""
    found = [record["psnr_db"] for record in shown]
    low = min(db["mean"] - db["half_width"] for db in found)
    high = max(db["mean"] + db["half_width"] for db in found)
    bits = [record["bits_per_weight"] for record in points]
    return Axes(math.floor(min(bits)), math.ceil(max(bits)), 5 * math.floor(low / 5), 5 * math.ceil(high / 5))


def _frame(axes: Axes) -> list[str]:
    """Card, grid, numbers, titles and legend."""
    left, right, floor, top = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP
    parts = [f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8"/>']
    for db in range(round(axes.bottom), round(axes.top) + 1, 5):
        y = axes.y(db)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="soft" x="{left - 10}" y="{y + 4:.1f}" text-anchor="end">{db}</text>')
    for bits in range(round(axes.low), round(axes.high) + 1):
        x = axes.x(bits)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{floor}"/>')
        parts.append(f'<text class="soft" x="{x:.1f}" y="{floor + 20}" text-anchor="middle">{bits}</text>')
    parts.append(f'<path class="axis" fill="none" d="M{left} {top}V{floor}H{right}"/>')
    middle, height = (left + right) / 2, (floor + top) / 2
    parts += [
        f'<text class="text" x="{middle}" y="{HEIGHT - 16}" text-anchor="middle">bits per weight (of the matrices)'
        "</text>",
        f'<text class="text" x="24" y="{height}" text-anchor="middle" transform="rotate(-90 24 {height})">'
        "PSNR against the F16 model's videos, dB</text>",
        f'<text class="text" x="{left}" y="28" font-size="16" font-weight="600">'
        "How close each type stays to F16, by size</text>",
        f'<text class="soft" x="{left}" y="48">bars: 95 % confidence of the mean; dotted: no smaller type is better'
        "</text>",
    ]
    for i, (title, kind) in enumerate(FAMILIES.items()):
        x = right - 330 + 115 * i
        parts.append(f'<circle class="{kind}" cx="{x}" cy="24" r="{POINT_PX}"/>')
        parts.append(f'<text class="text" x="{x + 11}" y="28">{title}</text>')
    return parts


def _front(points: Mapping[str, Results], axes: Axes) -> list[str]:
    """Through the types that are better than every smaller one."""
    best, steps = -math.inf, []
    for record in sorted(points.values(), key=lambda r: (r["bits_per_weight"], -r["psnr_db"]["mean"])):
        if record["psnr_db"]["mean"] > best:
            best = record["psnr_db"]["mean"]
            steps.append(f"{axes.x(record['bits_per_weight']):.1f} {axes.y(best):.1f}")
    return [f'<path class="front" d="M{"L".join(steps)}"/>']


def _whole(name: str, record: Results, axes: Axes) -> list[str]:
    y, right = axes.y(record["psnr_db"]["mean"]), WIDTH - RIGHT
    return [
        f'<line class="whole" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>',
        f'<text class="wholetext" x="{LEFT + 8}" y="{y - 6:.1f}">{escape(name)}, '
        f"{record['bits_per_weight']:.0f} bits</text>",
    ]


def _point(name: str, record: Results, axes: Axes) -> list[str]:
    db, kind = record["psnr_db"], family_of(name)
    x = axes.x(record["bits_per_weight"])
    low, high = axes.y(db["mean"] - db["half_width"]), axes.y(db["mean"] + db["half_width"])
    return [
        f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke-width="1.5" '
        'stroke-opacity="0.6"/>',
        f'<circle class="{kind}" cx="{x:.1f}" cy="{axes.y(db["mean"]):.1f}" r="{POINT_PX}"/>',
    ]


def _labels(points: Mapping[str, Results], axes: Axes) -> list[str]:
    """Each beside its point, at the first place where it covers nothing."""
    centres = {n: (axes.x(r["bits_per_weight"]), axes.y(r["psnr_db"]["mean"])) for n, r in points.items()}
    taken = [Box(x - POINT_PX, y - POINT_PX, x + POINT_PX, y + POINT_PX) for x, y in centres.values()]
    parts = []
    for name, (x, y) in sorted(centres.items(), key=lambda item: item[1]):
        box = _free_place(name, x, y, taken)
        taken.append(box)
        middle = (box.left + box.right) / 2  # the same gap on both sides, whatever the viewer's font
        parts.append(
            f'<text class="text" x="{middle:.1f}" y="{box.bottom - 3:.1f}" text-anchor="middle">{escape(name)}</text>'
        )
    return parts


def _free_place(name: str, x: float, y: float, taken: list[Box]) -> Box:
    """To the right, to the left, above and below, nearest first; if all are covered, the one to the right."""
    width, places = LABEL_PX * len(name), []
    for distance in (0, 8, 16, 24, 32):
        for across, down in ((1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1), (0, -1), (0, 1)):
            left = x - width / 2 + across * (width / 2 + POINT_PX + 4)
            middle = y + down * (distance + LABEL_HEIGHT_PX / 2 + (0 if across else POINT_PX))
            places.append(Box(left, middle - LABEL_HEIGHT_PX / 2, left + width, middle + LABEL_HEIGHT_PX / 2))
    area = Box(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)
    inside = [p for p in places if p.left >= area.left and p.right <= area.right and p.bottom <= area.bottom]
    free = [p for p in inside if not any(p.meets(other) for other in taken)]
    return (free or inside or places)[0]
