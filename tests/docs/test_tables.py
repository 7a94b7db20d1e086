"""The tables of the pages are complete: what there is has a row, and says in it what is so."""

from __future__ import annotations

import re
import tomllib

import pytest
from pydantic import BaseModel

import conv_realtime
from conv_realtime import testing
from conv_realtime.core.envelope import MAX_FRAME_BYTES
from conv_realtime.core.requests import (
    MAX_REQUEST_BYTES,
    MAX_SNAPSHOT_MESSAGES,
    snapshot_messages,
)
from conv_realtime.core.selection import MAX_EXCLUDED
from conv_realtime.edges.doorstep import HEAD_SECONDS, MAX_WAITING
from conv_realtime.edges.formats import known_formats
from conv_realtime.events import ConversationData, MessageData, ProjectData
from conv_realtime.models import ROW_TYPES
from conv_realtime.relay.dialogue import FRAMES_AT_ONCE, FRAMES_PER_SECOND
from conv_realtime.relay.hub import ANSWER_BYTES, LAST_WORD_SECONDS
from conv_realtime.relay.laggards import STALL_SECONDS
from tests.bench import __main__ as _suite  # importing it adds every benchmark
from tests.bench.harness import BENCHMARKS
from tests.docs.pages import PAGES, ROOT, prose, table

PACKAGE = ROOT / "conv_realtime"
ARCHITECTURE = "conv_realtime/README.md"
PROTOCOL = "conv_realtime/relay/protocol/README.md"
COMPARISON = "tests/comparison/README.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FRAMES: dict[str, type[BaseModel]] = {
    "projects": ProjectData,
    "conversations": ConversationData,
    "messages": MessageData,
}


# Folders -----------------------------------------------------------------------------------


def test_every_part_of_the_package_is_in_its_table() -> None:
    """A folder or module that it does not name has no place."""
    named = " ".join(table(ARCHITECTURE, "| part |"))
    for path in PACKAGE.iterdir():
        if path.name not in ("__pycache__", "__init__.py", "__main__.py", "py.typed", "README.md"):
            assert f"{path.name}{'/' if path.is_dir() else ''}" in named, path.name


def test_the_folders_of_tests_are_in_their_table() -> None:
    """A folder that it does not name holds nobody knows what."""
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("*.py"))}
    assert folders <= {name.strip("/") for name in table("tests/README.md", "| where | holds |")}


def test_every_column_is_told() -> None:
    """As a field of a frame of the same row, or beside these."""
    beside = set(table("conv_realtime/sql/README.md", "| column | is |"))
    for name, row in ROW_TYPES.items():
        columns = set(row.model_fields) - row.joined
        assert columns <= {*FRAMES[name].model_fields, *beside}, name


def test_every_benchmark_is_in_the_table() -> None:
    """And none that has gone."""
    rows = table("tests/bench/README.md", "| name | asks |")
    assert _suite.MODULES
    assert {name for cell in rows for name in re.findall(r"\w+", cell)} == set(BENCHMARKS)


# What is imported --------------------------------------------------------------------------


def test_every_public_name_is_in_a_table() -> None:
    """And none that is not exported."""
    rows = table(ARCHITECTURE, "| name | what").values()
    named = {name for cells in rows for name in _quoted(cells[0])}
    assert named == set(conv_realtime.__all__)
    for name in testing.__all__:
        assert re.search(rf"\b{name}\b", PAGES["conv_realtime/testing/README.md"]), name


@pytest.mark.parametrize("name", ["Bridge", "Ingest", "Relay", "ConnectionManager"])
def test_what_a_class_offers_is_in_its_row(name: str) -> None:
    """Every public method and property."""
    (row,) = (cells[1] for cells in table(ARCHITECTURE, "| name | what").values()
              if cells[0] == f"`{name}`")  # fmt: skip
    public = {member for member in dir(getattr(conv_realtime, name)) if member[0] != "_"}
    assert public <= set(_quoted(row))


def _quoted(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_the_limits_are_those_of_the_code() -> None:
    """Of the protocol, and of whoever waits at the door."""
    limits = prose(PROTOCOL).partition("## Limits")[2].partition("\n## ")[0]
    for said in (
        f"{MAX_REQUEST_BYTES // 1024} KiB (1009)",
        f"{FRAMES_AT_ONCE:,.0f} frames at once and {FRAMES_PER_SECOND:.0f} a second",
        f"{MAX_FRAME_BYTES // 1024} KB; a message loses",
        f"{snapshot_messages(True)} messages of each",
        f"at most {MAX_SNAPSHOT_MESSAGES:,}",
        f"{ANSWER_BYTES // 1024} KB of answers",
        f"{STALL_SECONDS:.0f} seconds is closed with 1013",
        f"cut {LAST_WORD_SECONDS:.0f} seconds later",
        f"at most {MAX_EXCLUDED:,} ids",
    ):
        assert said in limits, said
    door = (
        f"{HEAD_SECONDS:.0f} seconds and let the longest waiting go where more than {MAX_WAITING}"
    )
    assert door in prose("conv_realtime/edges/README.md")


# Examples and alternatives -----------------------------------------------------------------


def test_every_example_is_in_the_readme() -> None:
    """With a link to where it is, or to a file in it."""
    links = re.findall(r"\]\((examples/[^)]+)\)", PAGES["README.md"])
    links += re.findall(
        r"\]\(\.\./\.\./(examples/[^)]+)\)", PAGES["conv_realtime/testing/README.md"]
    )
    for path in (ROOT / "examples").iterdir():
        if path.suffix == ".py" or (path.is_dir() and path.name != "__pycache__"):
            name = f"examples/{path.name}"
            assert any(link == name or link.startswith(f"{name}/") for link in links), name


def test_the_comparison_claims_what_is_held() -> None:
    """Both tables have the same features and the same word for here; a yes has a test."""
    here = table(COMPARISON, "| feature | here | held by |")
    beside = table(COMPARISON, "| feature | here | av |")
    assert list(here) == list(beside)
    for feature, (_, claim, tests) in here.items():
        assert re.match(r"`tests/[\w/]+\.py::\w+`", tests), feature
        said = beside[feature][1]
        assert claim == said or re.match(rf"{re.escape(said)}[:,] ", claim), feature
    assert len({len(row) for row in beside.values()}) == 1


def test_the_assistants_that_are_compared_are_those_that_are_read() -> None:
    """So many are watched, so many kinds of files are read by their path."""
    claim = table(COMPARISON, "| feature | here | held by |")["several agents"][1]
    watched = len(table("README.md", "| assistant |"))
    by_path = len(table("README.md", "| what | `source` | a conversation"))
    assert claim == f"{watched}, and {by_path} kinds of files by path"


def test_the_changelog_has_the_form_that_it_names() -> None:
    """Keep a Changelog's, and why contracts were made more exact; versions agree."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = PROJECT["project"]["version"]
    assert conv_realtime.__version__ == version
    first, *released = re.findall(r"^## (.+)$", text, re.M)
    assert first == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", one) for one in released)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Decided"}
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        found = re.findall(r"^### (.+)$", section, re.M)
        assert set(found) <= kinds and len(found) == len(set(found))


def test_every_format_is_in_the_tables() -> None:
    """By its `source`: where it lies or what it is, and what it states."""
    sources = {one.source for one in known_formats()}
    shown = [row[1] for row in table("README.md", "| assistant |").values()]
    shown += [row[1] for row in table("README.md", "| what | `source` | a conversation").values()]
    assert {cell.strip("`") for cell in shown} == sources
    states = " ".join(table("conv_realtime/core/formats/README.md", "| `source` |"))
    assert set(re.findall(r"\w+", states)) == sources
