"""Checkpoints on disk: kept through a kill, and never a reason not to start."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from pathlib import Path
from uuid import uuid4

import pytest

from conv_realtime.core.checkpoint import Checkpoint, FileStat
from conv_realtime.edges.checkpoints import Checkpoints, machine_id
from conv_realtime.errors import ConfigError

_CHECKPOINT = Checkpoint(
    FileStat(1, 2, 3, 4), base=5, part=6, position=7, crc=8, end=9, rewritten=True, foreign=10,
    messages=11, conversations=12,
)  # fmt: skip


def _fails() -> None:
    raise sqlite3.OperationalError("disk I/O error")


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Every field, also for paths that are no UTF-8, and apart for each destination."""
    odd = os.fsdecode(b"/tmp/\xff.jsonl")
    with Checkpoints(tmp_path, "here") as kept:
        kept.save("/a", Checkpoint(position=1))
        kept.save(odd, Checkpoint(position=1))
        kept.save("/a", Checkpoint(position=2))
        kept.save("/b", _CHECKPOINT)
    with Checkpoints(tmp_path, "here") as kept:
        assert kept.load() == {
            "/a": Checkpoint(position=2),
            "/b": _CHECKPOINT,
            odd: Checkpoint(position=1),
        }
    with Checkpoints(tmp_path, "elsewhere") as kept:
        assert kept.load() == {}


def test_each_database_has_its_own(tmp_path: Path) -> None:
    """What one acknowledged says nothing of another; the first one met is no replacement."""
    with Checkpoints(tmp_path, "here") as kept:
        kept.save("/a", _CHECKPOINT)
        assert kept.met_database("one") is False
        assert kept.load() == {"/a": _CHECKPOINT}
        assert kept.met_database("one") is False
        assert kept.met_database("two") is True
        assert kept.load() == {}
        assert kept.met_database("one") is True
        assert kept.load() == {"/a": _CHECKPOINT}
    with Checkpoints(tmp_path, "here") as kept:
        assert kept.load() == {"/a": _CHECKPOINT}


def test_a_database_that_another_process_has_met_is_met_all_the_same(tmp_path: Path) -> None:
    """What was noted before it answered is its own; what the one before acknowledged is not."""
    with Checkpoints(tmp_path, "here") as kept, Checkpoints(tmp_path, "here") as beside:
        beside.met_database("one")
        kept.save("/a", _CHECKPOINT)
        assert kept.met_database("one") is False
        assert kept.load() == beside.load() == {"/a": _CHECKPOINT}
        assert beside.met_database("two") is True
        assert kept.met_database("two") is True
        assert kept.load() == {}


def test_a_database_keeps_them_at_another_address(tmp_path: Path) -> None:
    """A local Supabase on another port is the same; another owner's rows are not."""
    with Checkpoints(tmp_path, "http://here:1", "me") as kept:
        kept.met_database("one")
        kept.save("/a", _CHECKPOINT)
    with Checkpoints(tmp_path, "http://here:2", "me") as kept:
        assert kept.load() == {}
        assert kept.met_database("one") is False
        assert kept.load() == {"/a": _CHECKPOINT}
    with Checkpoints(tmp_path, "http://here:1", "you") as kept:
        kept.met_database("one")
        assert kept.load() == {}


def test_a_damaged_file_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Checkpoints can be lost without losing data, so they are no reason not to start."""
    (tmp_path / "checkpoints.sqlite3").write_bytes(b"this is no database" * 100)
    with Checkpoints(tmp_path, "here") as kept:
        assert kept.load() == {}
        kept.save("/a", _CHECKPOINT)
        assert kept.fault is None
    assert "starting without checkpoints" in caplog.text
    assert (tmp_path / "checkpoints.damaged").exists()


def test_a_file_of_another_version_is_made_anew(tmp_path: Path) -> None:
    """Whatever its tables look like."""
    other = sqlite3.connect(tmp_path / "checkpoints.sqlite3")
    other.execute("create table checkpoints (destination text, something text)")
    other.close()
    with Checkpoints(tmp_path, "here") as kept:
        kept.save("/a", _CHECKPOINT)
        assert kept.load() == {"/a": _CHECKPOINT}


def test_what_cannot_be_written_is_said_and_survived(tmp_path: Path) -> None:
    """A full disk costs some rows sent twice after a restart, not the ingest."""
    with Checkpoints(tmp_path, "here") as kept:
        kept.save("/a", Checkpoint(position=1))
        kept._db.execute("pragma query_only = on")
        kept.save("/a", Checkpoint(position=2))
        assert kept.fault is not None and "checkpoints" in kept.fault
        kept._db.execute("pragma query_only = off")
        assert kept.load() == {"/a": Checkpoint(position=1)}
        kept.save("/a", Checkpoint(position=3))
        assert kept.fault is None


def test_what_another_process_wrote_is_read_until_that_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails at that moment does not make a `forget` or a `retry` unseen."""
    erased = uuid4()
    with Checkpoints(tmp_path, "here") as here, Checkpoints(tmp_path, "here") as there:
        assert not here.changed_elsewhere()
        there.letters.forget([erased])
        with monkeypatch.context() as failing:
            failing.setattr(here.letters, "reload", _fails)
            assert not here.changed_elsewhere()
        assert here.changed_elsewhere()
        assert here.letters.forgotten == {erased}
        assert not here.changed_elsewhere()


def test_a_state_directory_that_cannot_be_is_a_setting_to_correct(tmp_path: Path) -> None:
    """The error names the setting, and says what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as refused, Checkpoints(tmp_path / "file" / "state", "here"):
        pass
    assert refused.value.name == "state_dir"
    assert "choose another" in refused.value.advice


def test_others_cannot_read_paths_and_titles(tmp_path: Path) -> None:
    """The file is its owner's alone."""
    with Checkpoints(tmp_path, "here"):
        mode = (tmp_path / "checkpoints.sqlite3").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_a_machine_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run decides; a renamed host does not become another machine."""
    first = machine_id(tmp_path)
    monkeypatch.setattr("conv_realtime.edges.checkpoints.place._os_machine_id", lambda: "renamed")
    assert machine_id(tmp_path) == first != ""
    assert machine_id(tmp_path / "new") == "renamed"


@pytest.mark.parametrize("damaged", [b"\0" * 33, b"lap\0top\n", b"\xff\xfel", b"lap\ntop\n"])
def test_a_name_that_is_no_text_is_told(tmp_path: Path, damaged: bytes) -> None:
    """As a power cut leaves it; the database would take none of its rows."""
    (tmp_path / "machine").write_bytes(damaged)
    with pytest.raises(ConfigError, match="machine is damaged; restore it, or remove it"):
        machine_id(tmp_path)


def test_a_name_that_cannot_be_read_is_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one in its place would make every conversation another machine's."""
    (tmp_path / "machine").write_text("laptop")

    def closed(path: Path, **_: str) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as meanwhile, pytest.raises(ConfigError, match="cannot be used"):
        meanwhile.setattr(Path, "read_text", closed)
        machine_id(tmp_path)
    assert machine_id(tmp_path) == "laptop"
