"""What the READMEs say of tests is a test that passes."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conv_realtime.testing import Faults, SupabaseLocal
from conv_realtime.testing.plugin import pytest_addoption

ROOT = Path(__file__).parents[2]
README = (ROOT / "conv_realtime" / "testing" / "README.md").read_text(encoding="utf-8")
LOCAL = (ROOT / "conv_realtime" / "local" / "README.md").read_text(encoding="utf-8")
MAIN = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str) -> list[str]:
    """The Python in it."""
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_their_tests_pass(tmp_path: Path) -> None:
    """Every block that has tests, run as a reader would run it."""
    tests = [block for block in blocks(README) + blocks(MAIN) if "supabase_local: " in block]
    assert len(tests) == 3
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    for number, block in enumerate(tests):
        (tmp_path / f"test_block_{number}.py").write_text(block)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "4 passed" in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("text", "calls"),
    [(README, "asyncio.run"), (README, "check_format"), (LOCAL, "asyncio.run")],
    ids=["testing", "formats", "local"],
)
def test_their_programs_run(text: str, calls: str, tmp_path: Path) -> None:
    """The blocks for people without pytest, and the one that keeps its data."""
    programs = [block for block in blocks(text) if calls in block]
    assert programs
    for program in programs:
        command = [sys.executable, "-W", "error", "-c", program]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=60)


def test_every_fault_and_attribute_is_in_a_table(supabase_local: SupabaseLocal) -> None:
    """A fault that it does not name does not exist."""
    for name, _ in inspect.getmembers(Faults, inspect.isfunction):
        assert name.startswith("_") or f"`{name}(" in README, name
    for name in vars(supabase_local):
        assert name.startswith("_") or f"`{name}`" in README, name


def test_every_setting_is_in_the_table() -> None:
    """With the name that pytest knows it by."""
    parser = pytest.Parser(_ispytest=True)
    pytest_addoption(parser)
    assert len(parser._inidict) == 4
    for name in parser._inidict:
        assert f"| `{name}` |" in README
