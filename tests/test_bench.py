"""Every benchmark runs to its end and loses nothing; what it measures is not judged here."""

from __future__ import annotations

import json
import math
import random
import re
import statistics
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench.__main__ import main
from tests.bench.harness import BENCHMARKS, Figure, Plot, Scale, by_chance, in_turns
from tests.bench.plot import svg
from tests.bench.report import Report

ROOT = Path(__file__).parents[1]
COUNTED = ("lost", "doubled", "deliveries that the others miss")


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_a_benchmark_runs_and_loses_nothing(name: str, tmp_path: Path) -> None:
    """With the least of everything, as the command runs it; its files can be read."""
    command = [sys.executable, "-m", "tests.bench", "--smoke", "--out", str(tmp_path)]
    done = subprocess.run(
        [*command, "--only", name], cwd=ROOT, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    assert not found["not_run"], "a skipped benchmark is a failure"
    assert found["figures"]
    for figure in found["figures"]:
        assert figure["values"], figure
        if figure["what"] in COUNTED:
            assert figure["values"] == [0] * len(figure["values"]), figure
    for picture in tmp_path.glob("*.svg"):
        ElementTree.parse(picture)


def test_the_command_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Every benchmark has a name and a line; an unknown one is refused."""
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(BENCHMARKS)
    assert all(len(line.split()) > 3 for line in lines)
    with pytest.raises(SystemExit):
        main(["--only", "nonsense"])


def test_a_bar_is_kept_by_the_median_of_the_rounds() -> None:
    """One round in which the machine was busy decides nothing."""
    assert Figure("a", "x", [1, 1, 9], at_most=1.5).holds
    assert Figure("a", "x", [1, 9, 9], at_most=1.5).holds is False
    assert Figure("a", "x", [9, 9, 1], at_least=5).holds
    assert Figure("a", "x", [1]).holds is None
    report = Report("quick")
    report.add("one", Figure("a", "x", [1, 9, 9], at_most=1.5))
    report.add("one", Figure("b", "ms", [0.1234]))
    assert [figure.what for _, figure in report.missed] == ["a"]
    assert "| one | a | 9 x | 1 to 9 | 3 | ≤ 1.5 **is missed** |" in report.table()
    assert "| one | b | 0.123 ms |" in report.table()


def test_two_equals_are_seldom_told_apart() -> None:
    """By the median of their ratios, in one of forty runs; twice what differs is, always."""
    draw = random.Random(1)

    def ratio_of(mean: float) -> float:
        return mean * math.exp(draw.gauss(0, 0.2))

    bars = [by_chance([ratio_of(1.0) for _ in range(160)]) for _ in range(400)]
    assert all(1.0 < bar < 1.1 for bar in bars)
    above = sum(statistics.median(ratio_of(1.0) for _ in range(160)) > bar for bar in bars)
    assert 1 <= above <= 30
    assert all(statistics.median(ratio_of(1.2) for _ in range(160)) > bar for bar in bars)
    assert by_chance([2.0]) == 2.0


def test_rounds_take_turns_and_turn_around() -> None:
    """Whoever is first in one round is last in the next."""
    assert list(in_turns("ab", 3)) == [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]
    assert [scale.pick(1, 2, 3) for scale in Scale] == [1, 2, 3]


def test_a_plot_is_a_picture_whatever_it_shows() -> None:
    """One point or many, equal numbers, names with markup."""
    one = Plot("a < b", "x & y", "µs", {"<it>": {5: [1.0]}})
    many = Plot("t", "x", "y", {"a": {1: [1.0, 2.0], 100: [3.0]}, "b": {1: [0.01], 100: [700.0]}})
    for plot in (one, many):
        texts = [node.text for node in ElementTree.fromstring(svg(plot)).iter() if node.text]
        assert plot.title in texts and set(plot.lines) <= set(texts)


def test_every_planted_secret_is_found() -> None:
    """Few of each form, at both levels; the rest of the report is there."""
    command = [sys.executable, "-m", "tests.bench.redaction"]
    done = subprocess.run(
        [*command, "--each", "1", "--rounds", "1", "--megabytes", "0.3"],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"(\w+): ([\d,]+) of \2 secrets of \d+ kinds found, missed none", done.stdout)
    assert len(re.findall(r"missed none", done.stdout)) == 2
    assert "strict: " in done.stdout and "only secrets: " in done.stdout
