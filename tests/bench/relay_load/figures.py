"""What a measurement says: its figures, and the bounds that they keep or do not."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

QUIET: dict[str, Any] = {"ws_ping_interval": None}
"""uvicorn's part of silence: the sinks answer no ping, neither its nor the relay's."""

TEXT = "x" * 400


@dataclass(frozen=True)
class Figure:
    """One line of the table; `holds` is None where there is no bound."""

    what: str
    figure: str
    bound: str = ""
    holds: bool | None = None


class Measured(Protocol):
    """What a measurement returns: a dataclass that can be shown."""

    def figures(self) -> Sequence[Figure]:
        """Return its lines."""
        ...


def at_most(what: str, value: float, bound: float, form: str = "{:.3g}") -> Figure:
    """Return a figure that must not be above `bound`."""
    return Figure(what, form.format(value), f"at most {form.format(bound)}", value <= bound)


def at_least(what: str, value: float, bound: float, form: str = "{:.3g}") -> Figure:
    """Return a figure that must not be below `bound`."""
    return Figure(what, form.format(value), f"at least {form.format(bound)}", value >= bound)


def paired(upper: Sequence[float], lower: Sequence[float]) -> float:
    """Return the median of the ratios of what was measured in turns."""
    return statistics.median(one / other for one, other in zip(upper, lower, strict=True))


def machine() -> str:
    """Return what was measured on, without naming it."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, load {load}"


def process_cpu(pid: int) -> float:
    """Return seconds of CPU that all threads of a process have had, to a hundredth."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
