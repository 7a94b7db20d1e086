"""What a benchmark is: a generator of figures and plots, found by its name. See README.md.

Machines are loaded, shared and different, so nothing here is judged by a figure alone. What is
compared is measured in one run, in turns, and what is judged is the median of the rounds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

_T = TypeVar("_T")


class Scale(Enum):
    """How much is measured: for figures, for a first look, and to see that it runs at all."""

    FULL = "full"
    QUICK = "quick"
    SMOKE = "smoke"

    def pick(self, full: _T, quick: _T, smoke: _T) -> _T:
        """Return the value for this scale."""
        return {Scale.FULL: full, Scale.QUICK: quick, Scale.SMOKE: smoke}[self]


@dataclass(frozen=True)
class Figure:
    """A line of the table: what was measured, once in each round.

    Attributes:
        what: such as "serve, 500 clients".
        unit: such as "ms", or "x" for a ratio of two measurements of one round.
        values: one for each round.
        at_most: the bar, which the median has to keep; None where nothing is promised.
        at_least: the same from below.
    """

    what: str
    unit: str
    values: Sequence[float]
    at_most: float | None = None
    at_least: float | None = None

    @property
    def median(self) -> float:
        """The value that stands in the table."""
        return statistics.median(self.values)

    @property
    def bar(self) -> str:
        """The bar in words."""
        if self.at_most is not None:
            return f"≤ {self.at_most:.4g}"
        return f"≥ {self.at_least:g}" if self.at_least is not None else ""

    @property
    def holds(self) -> bool | None:
        """Whether the median keeps the bar; None without one."""
        if self.at_most is not None:
            return self.median <= self.at_most
        return self.median >= self.at_least if self.at_least is not None else None


@dataclass(frozen=True)
class Plot:
    """Lines over a number that was varied; at each point the values of all rounds."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Mapping[float, Sequence[float]]]


Finding = Figure | Plot
Measure = Callable[[Scale], Iterator[Finding]]


class CannotRun(Exception):
    """Something that a benchmark needs is not on this machine; `args[0]` says what."""


@dataclass(frozen=True)
class Benchmark:
    """One program of the suite; its summary is the first line of the function's docstring."""

    name: str
    measure: Measure

    @property
    def summary(self) -> str:
        """What it asks, in one line."""
        return (self.measure.__doc__ or "").partition("\n")[0]


BENCHMARKS: dict[str, Benchmark] = {}


def benchmark(name: str) -> Callable[[Measure], Measure]:
    """Add a function to the suite under a name."""

    def add(measure: Measure) -> Measure:
        BENCHMARKS[name] = Benchmark(name, measure)
        return measure

    return add


def in_turns(things: Sequence[_T], rounds: int) -> Iterator[tuple[int, _T]]:
    """Yield each thing once a round, in an order that turns around from round to round."""
    for number in range(rounds):
        yield from ((number, thing) for thing in (things if number % 2 == 0 else things[::-1]))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return, round by round, how many times theirs is ours."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def by_chance(ratios_of_equals: Sequence[float]) -> float:
    """Return what the median of so many ratios of two equals is above in one of forty runs.

    Either of the two may be the one below the line. The interval is that of the order statistics.
    """
    values = sorted([*ratios_of_equals, *(1 / one for one in ratios_of_equals)])
    share = 0.5 + 0.98 / math.sqrt(len(ratios_of_equals))
    return values[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


def p95(values: Sequence[float]) -> float:
    """Return the value that 95 of 100 are not above."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1]
