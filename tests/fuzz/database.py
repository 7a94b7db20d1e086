"""A database of OpenCode's, made of any bytes, and read as one.

Bytes that are no SQLite file are lines, each `["TABLE", {"COLUMN": value, …}]`: a row, written in
the place of the one of the same id; with its id alone, that one is deleted. The columns that are
named anywhere are those that there are. A line `"read"` has the database read as it is then; what
is written behind it is newer. In an SQLite file, its log comes behind `WAL`.
"""

from __future__ import annotations

import json
import re
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

from conv_realtime.core.formats.opencode import OpenCode
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.edges.disk import OpenFile
from conv_realtime.errors import SourceError
from conv_realtime.ingest.follow_database import DatabaseFollower
from conv_realtime.ingest.follow_statements import Common
from conv_realtime.models import Conversation, Message
from conv_realtime.testing.formats.reading import Stated
from conv_realtime.testing.formats.well_formed import faults
from tests.fuzz.memories import IDENTITY, NoMemories
from tests.fuzz.rows import rows_of
from tests.opencode import Writer, Writer2, converse, converse_2

WAL = b"\n-- its log --\n"
_SQLITE = b"SQLite format 3\0"
_TABLES = ("session", "message", "part", "session_v2", "session_message")
_COLUMN = re.compile("[a-z_]{1,20}")
_LATE = 10**13
_Row = tuple[str, Mapping[str, Any]]


def read_database(data: bytes, folder: Path) -> None:
    """Reads bytes as a database, and after each state of it.

    Raises:
        AssertionError: a row is one that the database or a reader would refuse, or who has read
            every state has other messages than who reads the last.
    """
    path = folder / "opencode.db"
    for place in folder.glob(f"{path.name}*"):
        place.unlink()
    if data.startswith(_SQLITE):
        file, _, log = data.partition(WAL)
        path.write_bytes(file)
        if log:
            path.with_name(path.name + "-wal").write_bytes(log)
        _read(_follower(path))
        return
    states = list(_states(data))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        _create(db, [row for state in states for row in state])
        grown = _follower(path)
        for number, state in enumerate(states):
            for line, (table, row) in enumerate(state):
                _write(db, table, row, newer=number and number * 1000 + line)
            rows = _read(grown)
        once = _read(_follower(path))
    assert (rows is None) == (once is None)
    if rows is not None and once is not None:
        assert _said(rows, once) == _said(once, once)


def seeds() -> list[bytes]:
    """Return a conversation as lines, and as files of SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "opencode.db"
        lines: list[bytes] = []
        with Writer(path, page_size=512) as writer:
            for step in (1, 3, 4):
                converse(writer, step=step)
                lines += [*_lines(path), b'"read"']
        with Writer(path) as writer:  # with a short log
            converse(writer, "ses_2", step=2)
            writer.session("ses_2", parent_id="ses_1", revert='{"messageID": "msg_ses_2_2"}')
            lines += [*_lines(path), b'["part", {"id": "prt_ses_1_1"}]', b'"read"']
            log = path.with_name(path.name + "-wal").read_bytes()
            both = path.read_bytes() + WAL + log
        with Writer2(path) as second:
            converse_2(second, "ses_3", step=3)
            second.row("msg_4", "ses_3", "compaction", summary="So far")
            second.session("ses_3", revert='{"messageID": "msg_ses_3_2"}')
            lines += _lines(path)
        return [b"\n".join(lines), path.read_bytes(), both]


def _lines(path: Path) -> Iterator[bytes]:
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        for table in _TABLES:
            known = db.execute("select 1 from sqlite_master where name = ?", (table,)).fetchone()
            for row in db.execute(f"select * from {table}") if known else ():
                values = {name: row[name] for name in row.keys() if row[name] is not None}
                if "data" in values:
                    values["data"] = json.loads(values["data"])
                yield json.dumps([table, values]).encode()


def _states(data: bytes) -> Iterator[Sequence[_Row]]:
    state: list[_Row] = []
    for line in data.split(b"\n"):
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if value == "read":
            yield state
            state = []
        elif isinstance(value, list) and len(value) == 2 and isinstance(value[1], dict):
            if value[0] in _TABLES and all(map(_COLUMN.fullmatch, value[1])):
                state.append((value[0], value[1]))
    yield state


def _create(db: sqlite3.Connection, rows: Sequence[_Row]) -> None:
    db.execute("pragma synchronous = off")
    db.execute("pragma journal_mode = memory")
    for table in _named(rows):
        names = sorted({"id"}.union(*(row for name, row in rows if name == table)))
        columns = (f'"{name}" {"integer" if "time" in name else "text"}' for name in names)
        db.execute(f"create table {table} ({', '.join(columns)})")


def _named(rows: Sequence[_Row]) -> Sequence[str]:
    """Returns the tables that there are: those of OpenCode 1, and which rows name."""
    named = {table for table, _ in rows}
    return [table for table in _TABLES if table in named or "session_" not in table]


def _write(db: sqlite3.Connection, table: str, row: Mapping[str, Any], *, newer: int) -> None:
    """Writes a row; one that is newer shows in its session as well, as OpenCode has it."""
    values = {name: _value(value) for name, value in row.items()}
    if newer and "time_updated" in _columns(db, table):
        values["time_updated"] = _LATE + newer
    db.execute(f"delete from {table} where id is ?", (values.get("id"),))
    if row.keys() - {"id"}:
        known = ", ".join(f'"{name}"' for name in values)
        marks = ", ".join("?" * len(values))
        db.execute(f"insert into {table} ({known}) values ({marks})", list(values.values()))
    for sessions in ("session", "session_v2"):
        if newer and "time_updated" in _columns(db, sessions):
            db.execute(f"update {sessions} set time_updated = ?", (_LATE + newer,))


def _columns(db: sqlite3.Connection, table: str) -> set[str]:
    return {name for _, name, *_ in db.execute(f"pragma table_info({table})")}


def _value(value: Any) -> Any:
    """Returns what SQLite takes; a text that begins with `blob:` is none."""
    if isinstance(value, dict | list):
        return json.dumps(value)
    if isinstance(value, int) and abs(value) >= 2**63:
        return str(value)
    if isinstance(value, str) and value.startswith("blob:"):
        return value.encode()
    return value


def _follower(path: Path) -> DatabaseFollower:
    return DatabaseFollower(str(path), OpenCode(), Common(IDENTITY, NoMemories()), Sanitizer())


def _read(follower: DatabaseFollower) -> Stated | None:
    """Returns what a database states now; None where that cannot be told."""
    with OpenFile(follower.path) as file:
        try:
            follower.read(file)
            stated = rows_of(follower, file)
        except SourceError as error:
            assert isinstance(error.__cause__, sqlite3.Error | UnicodeDecodeError), error
            return None
    wrong = next(faults(OpenCode.source, stated), None)
    assert wrong is None, wrong
    return stated


def _said(stated: Stated, among: Stated) -> list[Any]:
    """Returns what the rows say, however often the database was read, of some conversations."""
    live = stated.live.messages.values()
    rows: list[Conversation | Message] = [
        *(row for id, row in stated.conversations.items() if id in among.conversations),
        *(row for row in live if row.conversation_id in among.conversations),
    ]
    left = {"revision", "conversation"}
    return sorted((str(row.id), row.model_dump_json(exclude=left)) for row in rows)
