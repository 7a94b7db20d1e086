"""What a run leaves: a table in Markdown, the values of all rounds as JSON, and plots."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.bench.harness import Figure, Finding, Plot
from tests.bench.plot import svg

_PACKAGES = ("uvicorn", "uvloop", "starlette", "fastapi", "websockets", "pydantic")


@dataclass
class Report:
    """What was found, benchmark by benchmark, and in what circumstances."""

    scale: str
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    load_before: tuple[float, float, float] = field(default_factory=os.getloadavg)
    figures: list[tuple[str, Figure]] = field(default_factory=list)
    plots: list[tuple[str, Plot]] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, finding: Finding) -> None:
        """Take in what a benchmark found."""
        if isinstance(finding, Figure):
            self.figures.append((name, finding))
        else:
            self.plots.append((name, finding))

    @property
    def missed(self) -> list[tuple[str, Figure]]:
        """The figures that do not keep their bar."""
        return [(name, figure) for name, figure in self.figures if figure.holds is False]

    def circumstances(self) -> str:
        """Return date, machine, versions and load, in two lines."""
        packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
        loads = " → ".join(f"{load[0]:.1f}" for load in (self.load_before, os.getloadavg()))
        return (
            f"{self.began:%Y-%m-%d %H:%M} UTC, {_processor()}, {os.cpu_count()} cores, "
            f"{platform.system()} {platform.release()}, load {loads} ({self.scale})\n"
            f"Python {platform.python_version()}, {packages}"
        )

    def table(self) -> str:
        """Return the table: medians, and in brackets the spread of the rounds."""
        lines = [
            "| benchmark | what | median | spread | n | bar |",
            "|---|---|---|---|---|---|",
        ]
        for name, figure in self.figures:
            spread = f"{_short(min(figure.values))} to {_short(max(figure.values))}"
            verdict = {None: "", True: " holds", False: " **is missed**"}[figure.holds]
            lines.append(
                f"| {name} | {figure.what} | {_short(figure.median)} {figure.unit} | {spread} "
                f"| {len(figure.values)} | {figure.bar}{verdict} |"
            )
        lines += [
            f"| {name} | not run: needs {what} | | | | |" for name, what in self.not_run.items()
        ]
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write everything into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.md").write_text(f"{self.circumstances()}\n\n{self.table()}\n")
        values = {
            "circumstances": self.circumstances(),
            "figures": [{"benchmark": name, **asdict(figure)} for name, figure in self.figures],
            "not_run": self.not_run,
        }
        (folder / "results.json").write_text(json.dumps(values, indent=1))
        for number, (name, plot) in enumerate(self.plots):
            (folder / f"{name}-{number}.svg").write_text(svg(plot))


def line(figure: Figure) -> str:
    """Return a figure, for who waits for it at a terminal."""
    verdict = {None: "", True: f"  {figure.bar} holds", False: f"  {figure.bar} IS MISSED"}[
        figure.holds
    ]
    spread = f"[{_short(min(figure.values))} to {_short(max(figure.values))}]"
    return f"  {figure.what:<48} {_short(figure.median):>8} {figure.unit:<14} {spread}{verdict}"


def _short(value: float) -> str:
    """Return three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _processor() -> str:
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _lines(path: Path) -> Sequence[str]:
    return path.read_text().splitlines() if path.exists() else ()
