"""A plot as an SVG: both axes logarithmic, medians, and the spread of the rounds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from tests.bench.harness import Plot

_WIDTH, _HEIGHT = 760, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 200, 40, 56
_COLOURS = ("#1b1b1b", "#7a7a7a", "#0a7d4f", "#1f6fd1", "#b0489c", "#d1611f", "#a33b3b", "#8a7a10")


class _Axis:
    """Numbers to places on a line."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low, self._high = math.log10(min(values)), math.log10(max(values))
        if self._high - self._low < 0.1:
            self._low, self._high = self._low - 0.5, self._high + 0.5
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        """Return the place of a number."""
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> Iterator[float]:
        """Yield round numbers within the axis."""
        for exponent in range(math.floor(self._low), math.ceil(self._high) + 1):
            for digit in (1, 2, 5):
                value = digit * 10.0**exponent
                if self._low <= math.log10(value) <= self._high:
                    yield value


def svg(plot: Plot) -> str:
    """Return the plot as a picture."""
    xs = [x for line in plot.lines.values() for x in line]
    ys = [y for line in plot.lines.values() for values in line.values() for y in values]
    across = _Axis(xs, _LEFT, _WIDTH - _RIGHT)
    up = _Axis(ys, _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_LEFT, 22, plot.title, "font-weight='bold'"),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 14, plot.x, "text-anchor='middle'"),
        _text(_LEFT - 8, _TOP - 8, plot.y, "text-anchor='end'"),
        *_grid(across, up, sorted(set(xs))),
    ]
    for number, (name, line) in enumerate(plot.lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        parts += _line(across, up, line, colour)
        y = _TOP + 14 + 20 * number
        parts.append(f'<rect x="{_WIDTH - _RIGHT + 16}" y="{y - 9}" width="12" height="10" '
                     f'fill="{colour}"/>')  # fmt: skip
        parts.append(_text(_WIDTH - _RIGHT + 34, y, name))
    return "\n".join([*parts, "</svg>\n"])


def _grid(across: _Axis, up: _Axis, xs: Sequence[float]) -> Iterator[str]:
    for value in up.ticks():
        y = up.at(value)
        yield (f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
               'stroke="#ddd"/>')  # fmt: skip
        yield _text(_LEFT - 8, y + 4, f"{value:g}", "text-anchor='end'")
    for value in xs:
        yield _text(across.at(value), _HEIGHT - _BOTTOM + 20, f"{value:g}", "text-anchor='middle'")


def _line(
    across: _Axis, up: _Axis, line: Mapping[float, Sequence[float]], colour: str
) -> Iterator[str]:
    points = [(across.at(x), values) for x, values in sorted(line.items())]
    path = " ".join(f"{x:.1f},{up.at(statistics.median(values)):.1f}" for x, values in points)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for x, values in points:
        low, high = up.at(min(values)), up.at(max(values))
        yield (f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" '
               f'stroke="{colour}" stroke-opacity="0.5"/>')  # fmt: skip


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'
