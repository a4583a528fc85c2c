"""Curves over sizes as an SVG file: sizes on a logarithmic axis, values on another."""

from __future__ import annotations

import math
from collections.abc import Mapping

WIDTH, HEIGHT = 720, 300  # of a panel
LEFT, RIGHT, TOP, BELOW = 60, 190, 40, 50
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")  # told apart by everybody

Curves = Mapping[str, Mapping[int, float]]


def drawn(panels: Mapping[str, Curves], *, below: str) -> str:
    """A panel for each title, one under the other; `below` says what the sizes are."""
    parts = [_panel(title, curves, below, place * HEIGHT) for place, (title, curves) in enumerate(panels.items())]
    high = HEIGHT * len(parts)
    size = f'viewBox="0 0 {WIDTH} {high}" width="{WIDTH}" height="{high}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12" fill="#333">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>", ""])


def _panel(title: str, curves: Curves, below: str, down: int) -> str:
    sizes = sorted({size for curve in curves.values() for size in curve})
    values = [value for curve in curves.values() for value in curve.values()]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    floor = HEIGHT - BELOW

    def across(size: int) -> float:
        span = math.log10(sizes[-1] / sizes[0]) or 1
        return LEFT + math.log10(size / sizes[0]) / span * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        return floor - (math.log10(value) - low) / ((high - low) or 1) * (floor - TOP)

    lines = [f'<g transform="translate(0 {down})">', f'<text x="{LEFT}" y="20" font-weight="bold">{title}</text>']
    for power in range(low, high + 1):
        y = up(10.0**power)
        lines.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    lines += [f'<text x="{across(size):.1f}" y="{floor + 18}" text-anchor="middle">{size:,}</text>' for size in sizes]
    lines.append(f'<text x="{LEFT}" y="{floor + 36}">{below}</text>')
    for place, (name, curve) in enumerate(curves.items()):
        color, y = COLORS[place % len(COLORS)], TOP + 18 * place
        points = " ".join(f"{across(size):.1f},{up(value):.1f}" for size, value in sorted(curve.items()))
        lines.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        lines.append(f'<rect x="{WIDTH - RIGHT + 16}" y="{y}" width="12" height="3" fill="{color}"/>')
        lines.append(f'<text x="{WIDTH - RIGHT + 34}" y="{y + 6}">{name}</text>')
    return "\n".join([*lines, "</g>"])
