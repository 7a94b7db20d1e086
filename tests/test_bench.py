"""The load program runs, and loses nothing; what it measures is not judged here."""

from __future__ import annotations

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
