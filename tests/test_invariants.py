"""The invariants and the table of faults name code that exists; tests/docs looks for the tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.guards import GUARDS as TAKEN_AWAY

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "conv_realtime" / "README.md").read_text(encoding="utf-8")
FAULTS = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
GUARDS = sorted(set(re.findall(r"\| `([\w/.]+)(?:::(\w+))?` \| `tests/", FAULTS)))
ROWS = FAULTS.partition("## A table of faults")[2].partition("\n## ")[0].count("` |\n")
SECTIONS = re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.split("\n")[0])
def test_each_invariant_has_code_and_tests(section: str) -> None:
    """What is kept by nothing, or held by nothing, is a wish."""
    kept = re.search(r"^\* Kept by (.+)\.$", section, flags=re.MULTILINE)
    assert kept is not None
    for place in re.findall(r"`([^`]+)`", kept[1]):
        assert list((ROOT / "conv_realtime").glob(place.replace("…", "*"))), place
    assert re.search(r"`tests/", section)


@pytest.mark.parametrize(("file", "name"), GUARDS)
def test_a_named_guard_exists(file: str, name: str) -> None:
    """A guard that has gone, or has another name, guards nothing."""
    place = ROOT / "conv_realtime" / file
    assert place.exists()
    if name:
        code = place.read_text(encoding="utf-8")
        pattern = rf"^ *(?:(?:async )?def|class) {name}\b|^{name} = "
        assert re.search(pattern, code, flags=re.MULTILINE)


def test_every_row_of_faults_has_a_guard_and_a_test() -> None:
    """A row in another form would be checked by nobody."""
    assert ROWS == len(
        re.findall(r"\| `[\w/.]+(?:::\w+)?` \| `tests/[\w/]+\.py::\w+` \|\n", FAULTS)
    )


def test_every_guard_that_is_taken_away_is_there() -> None:
    """Else `python -m tests.guards` has nothing to take away, and says so only when it is run."""
    code = {one.file: (ROOT / "conv_realtime" / one.file).read_text("utf-8") for one in TAKEN_AWAY}
    assert [one for one in TAKEN_AWAY if code[one.file].count(one.guard) != 1] == []
