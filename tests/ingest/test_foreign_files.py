"""What lies among transcripts and is none: nothing ends, nothing hangs, every skip is named."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conv_realtime.edges.disk import OpenFile
from conv_realtime.errors import SourceError
from conv_realtime.testing import MemoryStore
from tests.ingest.lines import user, uuid
from tests.ingest.running import ingest, running, texts, until, write
from tests.ingest.weighing import weighed

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for its memory")

_MB = 2**20
_ON = user("q", session=uuid("foreign"))
_MORE = user("r", session=uuid("foreign"))
_NOBODYS = "not a transcript of a known assistant"
_NO_RECORD = "no record in it"
_NOISE = random.Random(1).randbytes(300_000)
_DEEP = 100_000


@dataclass(frozen=True, slots=True)
class Foreign:
    """Something in a folder of transcripts.

    Attributes:
        name: what it is called.
        made: its bytes, or what puts it at a path.
        skips: what is said of it: why, and at which byte.
        read: the texts that are read of it all the same.
    """

    name: str
    made: bytes | Callable[[Path], object]
    skips: tuple[tuple[str, int | None], ...] = ()
    read: tuple[str, ...] = ()

    def put(self, folder: Path) -> Path:
        """Puts it there; gives its path."""
        path = folder / self.name
        if isinstance(self.made, bytes):
            path.write_bytes(self.made)
        else:
            self.made(path)
        return path


def _between(*lines: bytes) -> bytes:
    """Gives a transcript of two prompts with something between them."""
    return b"".join([_ON, *lines, _MORE])


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "inner.jsonl").write_bytes(_ON)


_BOTH = ("prompt q", "prompt r")
_HERE = len(_ON)
FOREIGN = {
    "a video": Foreign("a.jsonl", b"\0\0\0\x20ftypisom" + _NOISE, ((_NO_RECORD, None),)),
    "a video as an export": Foreign("a.json", b"\0\0\0\x20ftypisom" + _NOISE, ((_NOBODYS, None),)),
    "a video as a database": Foreign("opencode.db", _NOISE, ((_NOBODYS, None),)),
    "a video in a transcript": Foreign(
        "a.jsonl", _between(_NOISE.replace(b"\n", b"\r"), b"\n"), (("not JSON", _HERE),), _BOTH
    ),
    "a text in UTF-16": Foreign("a.jsonl", _ON.decode().encode("utf-16"), ((_NO_RECORD, None),)),
    "bytes that are no UTF-8": Foreign(
        "a.jsonl", _between(_ON.replace(b"prompt q", b"\xff\xc3(").replace(b'd": "', b'd": "x')),
        (), ("prompt q", "\ufffd\ufffd(", "prompt r"),
    ),
    "nothing": Foreign("a.jsonl", b"", ((_NO_RECORD, None),)),
    "blank lines": Foreign("a.jsonl", b"\n \r\n" * 1000, ((_NO_RECORD, None),)),
    "NULs": Foreign("a.jsonl", bytes(3 * _MB), ((_NO_RECORD, None),)),
    "NULs in a transcript": Foreign("a.jsonl", _between(bytes(3 * _MB), b"\n"), (), _BOTH),
    "lists that never end": Foreign(
        "a.jsonl", _between(b"[" * _DEEP, b"\n"), (("not JSON", _HERE),), _BOTH
    ),
    "objects that never end": Foreign(
        "a.jsonl", _between(b'{"type":' * _DEEP, b"\n"), (("not JSON", _HERE),), _BOTH
    ),
    "a record nested too deep": Foreign(
        "a.jsonl", _between(_ON[:-2] + b',"x":' + b"[" * _DEEP + b"]" * _DEEP + b"}\n"),
        (("not JSON", _HERE),), _BOTH,
    ),
    "a number of a million digits": Foreign(
        "a.jsonl", _between(b'{"type":', b"9" * 10**6, b"}\n"), (("not JSON", _HERE),), _BOTH
    ),
    "values that are no records": Foreign(
        "a.jsonl", _between(b"12\n", b"[{}]\n"),
        (("not an object but int", _HERE), ("not an object but list", _HERE + 3)), _BOTH,
    ),
    "a first line of five megabytes": Foreign(
        "a.jsonl", user("q", "x" * 5 * _MB, session=uuid("foreign")) + _MORE, (),
        ("x" * 30, "prompt r"),
    ),
    "an export nested too deep": Foreign(
        "a.json", b'[{"mapping":' + b'{"a":' * _DEEP, (("incomplete JSON", None),)
    ),
    "a stranger in an export": Foreign(
        "a.json", b'[{"chat_messages":[],"uuid":"u"}, {"also":1}, null]',
        (("no conversation", 34), ("no conversation", 46)),
    ),
    "a torn archive": Foreign(
        "a.jsonl.zst", b"\x28\xb5\x2f\xfd" + _NOISE[:99],
        (("not readable as zstd", None),),
    ),
    "a torn database": Foreign(
        "opencode.db", b"SQLite format 3\0" + _NOISE, (("file is not a database", None),)
    ),
    "a folder": Foreign("a.jsonl", _folder, (), ("prompt q",)),
    "a pipe": Foreign("a.jsonl", os.mkfifo, (("not a regular file", None),)),
    "a device": Foreign(
        "a.jsonl", lambda path: path.symlink_to("/dev/zero"), (("not a regular file", None),)
    ),
    "a link to itself": Foreign(
        "a.jsonl", lambda path: path.symlink_to(path),
        (("Too many levels of symbolic links", None),),
    ),
    "a link to nothing": Foreign("a.jsonl", lambda path: path.symlink_to(path.parent / "b")),
}  # fmt: skip


def _said(store: MemoryStore) -> list[str]:
    return sorted(text[:30] for text in texts(store))


@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN.keys())
async def test_a_backfill_reads_what_can_be_read_and_names_the_rest(
    tmp_path: Path, foreign: Foreign
) -> None:
    """With the place in the file where it is one; a transcript beside it is read as ever."""
    store = MemoryStore()
    path = foreign.put(write(tmp_path, user("beside")).parent)
    async with ingest(tmp_path, store) as river:
        summary = await river.backfill()
    assert {skip.path for skip in summary.skips} <= {str(path)}
    skips = [(skip.reason.partition(":")[0], skip.offset) for skip in summary.skips]
    assert skips == list(foreign.skips)
    assert _said(store) == sorted([*foreign.read, "prompt beside"])


@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN.keys())
async def test_watching_goes_on_beside_it(
    tmp_path: Path, foreign: Foreign, caplog: pytest.LogCaptureFixture
) -> None:
    """It comes while others are watched, is looked at, and once more when everything rests.

    A line that is skipped is told with its place.
    """
    caplog.set_level("INFO", "conv_realtime")
    store = MemoryStore()
    beside = write(tmp_path, user("beside"))
    async with running(ingest(tmp_path, store)) as river:
        await until(lambda: river.caught_up)
        foreign.put(beside.parent)
        with beside.open("ab") as file:
            file.write(user("on"))
        expected = sorted([*foreign.read, "prompt beside", "prompt on"])
        await until(lambda: _said(store) == expected)
        assert await river.drain(10)
        with beside.open("ab") as file:
            file.write(user("later"))
        await until(lambda: "prompt later" in texts(store))
    for reason, offset in foreign.skips:
        assert offset is None or f"skipped at byte {offset}: {reason}" in caplog.text


@pytest.mark.parametrize("foreign", ["a pipe", "a device", "a link to itself", "a folder"])
async def test_what_takes_a_transcripts_place_takes_nothing_back(
    tmp_path: Path, foreign: str
) -> None:
    """And ends nothing, whether anybody watches or not; the transcript comes back, and goes on."""
    store = MemoryStore()
    beside = write(tmp_path, user("beside"))
    path = write(tmp_path, _ON, name="-p/a.jsonl")
    async with running(ingest(tmp_path, store)) as river:
        await until(lambda: _said(store) == ["prompt beside", "prompt q"])
        path.rename(tmp_path / "away")
        FOREIGN[foreign].put(path.parent)
        with beside.open("ab") as file:
            file.write(user("on"))
        await until(lambda: "prompt on" in texts(store))
    async with running(ingest(tmp_path, store)) as river:
        await until(lambda: river.caught_up)
        path.rename(tmp_path / "foreign")
        (tmp_path / "away").rename(path)
        with path.open("ab") as file:
            file.write(_MORE)
        await until(lambda: "prompt r" in texts(store))
    assert all(row.deleted_at is None for row in store.messages.values())


def test_a_pipe_that_comes_between_looking_and_opening_is_not_waited_for(tmp_path: Path) -> None:
    """Opening one waits for somebody who writes, which nobody ever may."""
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(SourceError, match="not a regular file"):
        OpenFile(str(tmp_path / "a.jsonl"))


# Memory ------------------------------------------------------------------------------------


def _filled(path: Path, before: bytes, fill: bytes, size: int, after: bytes) -> None:
    """Writes a file that holds `size` bytes of one kind, NULs as a hole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(before)
        if fill == b"\0":
            file.seek(size, os.SEEK_CUR)
        else:
            for _ in range(size // _MB):
                file.write(fill * _MB)
        file.write(after)


_RECORD = _ON[: _ON.index(b"prompt q")]
_GB = 2**30
_LONG = "line too long"
_HEAVY = {
    "a line": (_ON, b"x", _GB, b"\n" + _MORE, [(_LONG, _HERE)], [*_BOTH]),
    "a record": (_ON + _RECORD, b"\0", _GB, b'"}}\n' + _MORE, [(_LONG, _HERE)], [*_BOTH]),
    "a first record": (_RECORD, b"\0", _GB, b'"}}\n' + _MORE, [(_LONG, 0)], ["prompt r"]),
    "a line without an end": (_ON, b"\0", _GB, b"x", [(_LONG, _HERE)], ["prompt q"]),
    "NULs between records": (_ON, b"\0", 10**9, b"\n" + _MORE, [(_LONG, _HERE)], [*_BOTH]),
    "nothing but NULs": (b"", b"\0", 10**9, b"\n", [(_NOBODYS, None)], []),
}


@linux
@pytest.mark.parametrize("heavy", _HEAVY.values(), ids=_HEAVY.keys())
def test_a_gigabyte_costs_an_eighth_of_itself_at_most(tmp_path: Path, heavy: Any) -> None:
    """Twice the longest line that is read; what is longer is skipped, with its place."""
    before, fill, size, after, skips, read = heavy
    path = tmp_path / "projects" / "-p" / "a.jsonl"
    _filled(path, before, fill, size, after)
    weight = weighed(tmp_path)
    os.truncate(path, 0)
    assert (weight.skips, weight.texts) == (skips, read)
    assert weight.grown < size / 8


@linux
def test_what_comes_while_it_is_watched_costs_no_more(tmp_path: Path) -> None:
    """A line that grows beyond the limit is let go of before it ends."""
    write(tmp_path, _ON, name="-p/a.jsonl")
    _filled(tmp_path / "more", b"", b"\0", _GB // 4, b"\n" + user("last", session=uuid("foreign")))
    weight = weighed(tmp_path)
    os.truncate(tmp_path / "more", 0)
    assert weight.texts == ["prompt q", "prompt last"]
    assert weight.grown < _GB / 8, weight.grown


@linux
def test_what_is_held_is_seen(tmp_path: Path) -> None:
    """With a limit above it, a line costs more than itself: the measure is none that passes all."""
    size = 128 * _MB
    _filled(tmp_path / "projects" / "-p" / "a.jsonl", _ON, b"x", size, b"\n" + _MORE)
    assert weighed(tmp_path, max_line_bytes=2 * size).grown > size
