"""A database as OpenCode makes it, for tests: its tables, and a program that writes them.

The tables are those of `packages/opencode/src/session/session.sql.ts` in anomalyco/opencode; those
of OpenCode 2 of `packages/core/src/session/sql.ts`, as getagentseal/codeburn#1293 shows them.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from pathlib import Path
from typing import Any, Self

_TABLES = """
create table session (
    id text primary key, project_id text not null, workspace_id text, parent_id text,
    slug text not null, directory text not null, path text, title text not null,
    version text not null, share_url text, summary_additions integer, summary_deletions integer,
    summary_files integer, summary_diffs text, cost real not null default 0,
    tokens_input integer not null default 0, tokens_output integer not null default 0,
    tokens_reasoning integer not null default 0, tokens_cache_read integer not null default 0,
    tokens_cache_write integer not null default 0, revert text, permission text, agent text,
    model text, time_created integer not null, time_updated integer not null,
    time_compacting integer, time_archived integer
);
create table message (
    id text primary key, session_id text not null references session(id) on delete cascade,
    time_created integer not null, time_updated integer not null, data text not null
);
create index message_session_time_created_id_idx on message (session_id, time_created, id);
create table part (
    id text primary key, message_id text not null references message(id) on delete cascade,
    session_id text not null, time_created integer not null, time_updated integer not null,
    data text not null
);
create index part_message_id_id_idx on part (message_id, id);
create index part_session_idx on part (session_id);
"""
_TABLES_2 = """
create table if not exists session_v2 (
    id text primary key, project_id text not null, workspace_id text, parent_id text,
    fork_session_id text, fork_boundary text, slug text not null, directory text not null,
    path text, title text, version text not null, metadata text, cost real default 0 not null,
    revert text, permission text, agent text, model text, time_created integer not null,
    time_updated integer not null, time_archived integer, time_idle integer, idle_outcome text
);
create table if not exists session_message (
    id text primary key, session_id text not null references session_v2(id) on delete cascade,
    type text not null, seq integer not null, time_created integer not null,
    time_updated integer not null, data text not null
);
create unique index if not exists session_message_session_seq_idx
    on session_message (session_id, seq);
"""
NOON = 1_772_000_000_000


class Writer:
    """OpenCode at work on one database, in WAL mode unless `wal` is False."""

    _sessions = "session"

    def __init__(self, path: Path, *, wal: bool = True, page_size: int = 1024) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        self._db = sqlite3.connect(path, isolation_level=None)
        if new:
            self._db.execute(f"pragma page_size = {page_size}")
        self._db.execute(f"pragma journal_mode = {'wal' if wal else 'delete'}")
        self._db.execute("pragma foreign_keys = on")
        if new:
            self._db.executescript(_TABLES)
        self._now = NOON

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def _tick(self) -> int:
        self._now += 1000
        return self._now

    def session(self, id: str, title: str = "Roses", **more: Any) -> None:
        """Begin a session, or change it."""
        now = self._tick()
        values = {
            "id": id, "project_id": "p", "slug": "roses", "directory": "/work/garden",
            "title": title, "version": "1.2.0", "time_created": now, "time_updated": now, **more,
        }  # fmt: skip
        names = ", ".join(values)
        changed = ", ".join(
            f"{name} = excluded.{name}" for name in ("title", "time_updated", *more)
        )
        self._db.execute(
            f"insert into {self._sessions} ({names}) values ({', '.join('?' * len(values))})"
            f" on conflict (id) do update set {changed}",
            list(values.values()),
        )

    def message(self, id: str, session: str, role: str, **data: Any) -> None:
        """Write a message anew."""
        now = self._tick()
        stated = {"role": role, "time": {"created": now}, **data}
        self._db.execute(
            "insert into message values (?, ?, ?, ?, ?) on conflict (id)"
            " do update set data = excluded.data, time_updated = excluded.time_updated",
            (id, session, now, now, json.dumps(stated)),
        )

    def part(self, id: str, message: str, session: str, **data: Any) -> None:
        """Write a part of a message anew."""
        now = self._tick()
        self._db.execute(
            "insert into part values (?, ?, ?, ?, ?, ?) on conflict (id)"
            " do update set data = excluded.data, time_updated = excluded.time_updated",
            (id, message, session, now, now, json.dumps(data)),
        )

    def delete(self, table: str, id: str) -> None:
        """Delete a row, with what belongs to it."""
        self._db.execute(f"delete from {table} where id = ?", (id,))


class Writer2(Writer):
    """OpenCode 2 at work, in a new database or in one that OpenCode 1 has written."""

    _sessions = "session_v2"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._db.executescript(_TABLES_2)
        self._seq = 0

    def row(self, id: str, session: str, kind: str, **data: Any) -> None:
        """Write a message anew."""
        now = self._tick()
        self._seq += 1
        stated = {"time": {"created": now}, **data}
        self._db.execute(
            "insert into session_message values (?, ?, ?, ?, ?, ?, ?) on conflict (id)"
            " do update set data = excluded.data, time_updated = excluded.time_updated",
            (id, session, kind, self._seq, now, now, json.dumps(stated)),
        )


def converse(writer: Writer, session: str = "ses_1", *, step: int = 4) -> None:
    """Write a conversation: a prompt, a call, its result, and an answer; `step` of them."""
    user, answer = f"msg_{session}_1", f"msg_{session}_2"
    writer.session(session)
    writer.message(user, session, "user", agent="build")
    writer.part(f"prt_{session}_1", user, session, type="text", text="Which roses are dry?")
    call = {"type": "tool", "callID": f"call_{session}", "tool": "list"}
    if step > 1:
        writer.message(answer, session, "assistant", modelID="gpt-test", providerID="openai")
        running = {"status": "running", "input": {"path": "beds"}, "time": {"start": 1}}
        writer.part(f"prt_{session}_2", answer, session, type="reasoning", text="I look.")
        writer.part(f"prt_{session}_3", answer, session, **call, state=running)
    if step > 2:
        done = {"status": "completed", "input": {"path": "beds"}, "output": "bed 3", "title": ""}
        writer.part(f"prt_{session}_3", answer, session, **call, state=done)
    if step > 3:
        writer.part(f"prt_{session}_4", answer, session, type="text", text="Those in bed 3.")
        writer.message(
            answer, session, "assistant", modelID="gpt-test", providerID="openai", cost=0.0125,
            tokens={"input": 100, "output": 20, "reasoning": 5, "cache": {"read": 50, "write": 7}},
            time={"created": NOON, "completed": NOON + 9}, finish="stop",
        )  # fmt: skip


def converse_2(writer: Writer2, session: str = "ses_1", *, step: int = 4) -> None:
    """Write the conversation of `converse` as OpenCode 2 does, `step` parts of it."""
    answer = f"msg_{session}_2"
    writer.session(session)
    writer.row(f"msg_{session}_1", session, "user", text="Which roses are dry?")
    said: dict[str, Any] = {"agent": "build", "model": {"id": "gpt-test", "providerID": "openai"}}
    call: dict[str, Any] = {"type": "tool", "id": f"call_{session}", "name": "list"}
    content = [{"type": "reasoning", "text": "I look."}, call]
    if step > 1:
        call["state"] = {"status": "running", "input": {"path": "beds"}, "metadata": {}}
        writer.row(answer, session, "assistant", content=content, **said)
    if step > 2:
        printed = [{"type": "text", "text": "bed 3"}]
        call["state"] = {"status": "completed", "input": {"path": "beds"}, "content": printed}
        writer.row(answer, session, "assistant", content=content, **said)
    if step > 3:
        content.append({"type": "text", "text": "Those in bed 3."})
        writer.row(
            answer, session, "assistant", content=content, cost=0.0125, finish="stop",
            tokens={"input": 100, "output": 20, "reasoning": 5, "cache": {"read": 50, "write": 7}},
            time={"created": NOON, "completed": NOON + 9}, **said,
        )  # fmt: skip
        writer.row(f"msg_{session}_3", session, "idle", outcome="succeeded")


def states(version: int = 1) -> list[bytes]:
    """Return the files that OpenCode leaves when it ends, after each step of a conversation."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "opencode.db"
        for step in range(1, 5):
            if version == 1:
                with Writer(path) as writer:
                    converse(writer, step=step)
            else:
                with Writer2(path) as second:
                    converse_2(second, step=step)
            found.append(path.read_bytes())
    return found
