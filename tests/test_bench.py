"""The load programs run to their end; what they measure is not judged here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_small_load_arrives_whole() -> None:
    """Both phases and the floor, with few sockets for a second."""
    command = [sys.executable, "-m", "tests.bench.local_realtime"]
    done = subprocess.run(
        [*command, "--sockets", "20", "--seconds", "1"],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"lost 0, doubled 0", done.stdout)) == 2
    assert "the floor" in done.stdout


def test_what_clients_cost_is_measured_apart_and_shown_together() -> None:
    """Each measurement in a process of its own; one that does not exist is refused at once."""
    command = [sys.executable, "-m", "tests.bench.relay_load", "--json"]
    done = subprocess.run(
        [*command, "latency", "latency"],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["what"] for one in shown] == ["latency"] * 2, done.stderr
    assert all(one["figures"] for one in shown)
    assert subprocess.run([*command, "nonsense"], cwd=ROOT, capture_output=True).returncode == 2


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
