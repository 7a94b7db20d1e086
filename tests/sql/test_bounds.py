"""No row can be written that would stop a reader of all owners' rows."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from conv_realtime.models import ROW_TYPES, Table
from tests.sql.database import Database
from tests.sql.rows import conversation, message, project


def nested(depth: int) -> Any:
    """Lists in lists."""
    return json.loads("[" * depth + "]" * depth)


POISON: list[tuple[Table, str, Any]] = [
    ("projects", "updated_at", "infinity"),
    ("projects", "metadata", []),
    ("projects", "name", "x" * 1_000_001),
    ("conversations", "created_at", "-infinity"),
    ("conversations", "started_at", "0044-03-15 BC"),
    ("conversations", "updated_at", "12026-01-01"),
    ("conversations", "deleted_at", "infinity"),
    ("conversations", "revision", 10**18),
    ("conversations", "revision", -1),
    ("conversations", "status", "idle"),
    ("conversations", "activity", "asleep"),
    ("conversations", "title", "x" * 1_000_001),
    ("conversations", "metadata", {"n": 10**400}),
    ("messages", "created_at", "infinity"),
    ("messages", "deleted_at", "infinity"),
    ("messages", "revision", 2**63 - 1),
    ("messages", "role", "boss"),
    ("messages", "usage", []),
    ("messages", "usage", {"input_tokens": "3"}),
    ("messages", "usage", {"input_tokens": 1.5}),
    ("messages", "usage", {"input_tokens": -1}),
    ("messages", "usage", {"input_tokens": None}),
    ("messages", "usage", {"input_tokens": {}}),
    ("messages", "usage", {f"kind {number}": 1 for number in range(1000)}),
    ("messages", "content", [{"n": [-(10**400)]}]),
    ("messages", "content", nested(300)),
    ("messages", "metadata", {"deep": nested(300)}),
    ("messages", "metadata", "x"),
]


def row_of(user: str, table: Table) -> tuple[dict[str, Any], dict[str, Any]]:
    """A conversation, and a row of the table that may hang under it."""
    talk = conversation(user)
    rows = {"projects": project(user), "conversations": talk, "messages": message(talk, 0)}
    return talk, rows[table]


@pytest.mark.parametrize(("table", "column", "value"), POISON)
def test_what_a_reader_cannot_take_is_refused(
    db: Database, alice: str, table: Table, column: str, value: Any
) -> None:
    """With the code of a bad row, which a writer sets aside."""
    talk, row = row_of(alice, table)
    with db.user(alice) as request:
        if table == "messages":
            request.upsert("conversations", [talk])
    with pytest.raises(psycopg.errors.CheckViolation), db.user(alice) as request:
        request.upsert(table, [row | {column: value}])


GOOD: list[tuple[Table, str, Any]] = [
    ("messages", "usage", {"input_tokens": 0, "output_tokens": 10**12}),
    ("messages", "usage", {}),
    ("messages", "usage", None),
    ("messages", "content", None),
    ("messages", "content", nested(190)),
    ("messages", "content", [1.5, -1e20, "1e999", {"a": None}]),
    ("messages", "content", "a string"),
    ("messages", "text", "x" * 5_000_000),
    ("messages", "revision", 10**18 - 1),
    ("conversations", "created_at", None),
    ("conversations", "title", "é" * 400_000),
    ("projects", "metadata", {"a": {"b": [1]}}),
]


@pytest.mark.parametrize(("table", "column", "value"), GOOD)
def test_what_transcripts_say_is_read_back(
    db: Database, alice: str, table: Table, column: str, value: Any
) -> None:
    """By the models that every reader uses, and the reader goes on behind it."""
    talk, row = row_of(alice, table)
    with db.user(alice) as request:
        if table == "messages":
            request.upsert("conversations", [talk])
        request.upsert(table, [row | {column: value}])
    with db.user(alice) as request:
        answer = request.changes("start", 1)
        while answer["more"]:
            answer = request.changes(answer["cursor"], 1)
            assert not answer["resync"]
    change = answer["changes"][-1]
    assert change["table"] == table
    read = ROW_TYPES[table].model_validate(change["row"]).to_row()
    assert read == row | {column: value}
