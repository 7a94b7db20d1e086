"""`sources`: what is on a machine, without a database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conv_realtime.core.formats import BUILT_IN
from conv_realtime.testing import SESSION, claude_line
from conv_realtime.testing.formats.examples import built_in


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with two assistants, a copy, an empty file, a stranger and a torn beginning."""
    claude = tmp_path / ".claude/projects/-garden"
    claude.mkdir(parents=True)
    (claude / f"{SESSION}.jsonl").write_bytes(claude_line("hi") + claude_line("again"))
    (claude / "copy.jsonl").write_bytes(claude_line("hi"))
    (claude / "empty.jsonl").touch()
    (claude / "torn.jsonl").write_bytes(claude_line("hi")[:50])
    (claude / "strange.jsonl").write_text('{"level": "info"}\n')
    for example in built_in("pi"):
        pi = tmp_path / ".pi/agent/sessions" / example.name
        pi.parent.mkdir(parents=True, exist_ok=True)
        pi.write_bytes(example.whole)
    return tmp_path


def _sources(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH")}
    return subprocess.run(
        [sys.executable, "-m", "conv_realtime", "sources", *arguments],
        env={**kept, "HOME": str(home), **variables},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _by_name(done: subprocess.CompletedProcess[str]) -> dict[str | None, dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["event"] for line in lines} == {"source"}
    return {line["source"]: line for line in lines}


def test_every_assistant_is_told_with_its_files_and_what_is_skipped(home: Path) -> None:
    """One object each, also of those that are not here; a skip says which file and why."""
    found = _by_name(_sources(home, "--json"))
    assert found.keys() == {form.source for form in BUILT_IN}
    claude = found["claude_code"]
    folder = home / ".claude/projects/-garden"
    size = (folder / f"{SESSION}.jsonl").stat().st_size
    assert (claude["files"], claude["bytes"]) == (1, size)
    assert claude["newest"].endswith("Z")
    assert {Path(skip["path"]).name: skip["reason"] for skip in claude["skipped"]} == {
        "copy.jsonl": f"copy of {folder / SESSION}.jsonl",
        "empty.jsonl": "empty",
        "torn.jsonl": "no record in it",
        "strange.jsonl": "not a transcript of a known assistant",
    }
    assert found["pi"]["files"] == 2
    gone = found["codex"]
    assert (gone["files"], gone["bytes"], gone["newest"], gone["skipped"]) == (0, 0, None, [])
    assert [place["exists"] for place in gone["places"]] == [False, False]


def test_people_get_a_table(home: Path) -> None:
    """What is here, what is skipped, and what is not here."""
    done = _sources(home)
    assert done.returncode == 0, done.stderr
    head, first, *_ = done.stdout.splitlines()
    assert head.split() == ["assistant", "files", "size", "newest", "where"]
    rows = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert rows["Claude Code"].endswith("~/.claude/projects")
    assert rows["Pi"].endswith("~/.pi/agent/sessions")
    assert "skipped: 4 files" in done.stdout
    assert "not on this machine: " in done.stdout and "Codex CLI" in done.stdout
    assert first  # a row, whichever assistant is first


def test_a_path_is_told_by_content(home: Path) -> None:
    """Files that lie elsewhere belong to whoever wrote them; what nobody wrote is nobody's."""
    elsewhere = home / "backup"
    elsewhere.mkdir()
    for source in ("qwen_code", "aider", "chat_dataset"):
        example, *_ = built_in(source)
        (elsewhere / Path(example.name).name).write_bytes(example.whole)
    (elsewhere / "notes.jsonl").write_text('{"a": 1}\n')
    found = _by_name(_sources(home, "--json", str(elsewhere)))
    counted = {source: line["files"] for source, line in found.items() if line["files"]}
    assert counted == {"qwen_code": 1, "aider": 1, "chat_dataset": 1}
    assert [Path(skip["path"]).name for skip in found[None]["skipped"]] == ["notes.jsonl"]


def test_a_place_of_which_nothing_can_be_told_hides_no_other(home: Path) -> None:
    """As one in a folder of another account; root has none that is closed, and none so long."""
    closed = str(home / ("n" * 300))
    found = _by_name(_sources(home, "--json", GEMINI_CLI_HOME=closed))
    assert found.keys() == {form.source for form in BUILT_IN}
    (place,) = (at for one in found.values() for at in one["places"] if closed in at["path"])
    assert not place["exists"]
    done = _sources(home, closed)
    assert done.returncode == 1 and f"Error: {closed}: " in done.stderr


def test_nothing_is_left_behind_or_needed(home: Path) -> None:
    """No state directory, no database, and an empty home is no failure."""
    before = sorted(home.rglob("*"))
    assert _sources(home).returncode == 0
    assert sorted(home.rglob("*")) == before
    empty = home / "nobody"
    empty.mkdir()
    done = _sources(empty)
    assert done.returncode == 0 and done.stdout.startswith("not on this machine: ")
    assert _sources(home, str(home / "missing")).returncode == 2
