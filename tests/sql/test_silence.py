"""A write that changes nothing is as if it had not been made; an older one too."""

from __future__ import annotations

import random
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sql.conftest import Recorder
from tests.sql.database import Database
from tests.sql.rows import conversation, message, project

LONG = "".join(random.Random(7).choices("abcdefghijklmnopqrstuvwxyz ", k=60_000))


def stored(db: Database, table: str, row: dict[str, Any]) -> dict[str, Any]:
    """The row as it stands, bookkeeping included."""
    with db.postgres() as request:
        return request.rows(f"select * from public.{table} where id = %s", row["id"])[0]


def test_a_repeated_row_writes_and_sends_nothing(
    db: Database, alice: str, broadcasts: Recorder
) -> None:
    """Not even of values so long that they are stored out of line."""
    place = project(alice)
    talk = conversation(alice, project_id=place["id"])
    line = message(talk, 0, text=LONG, content=[{"type": "text", "text": LONG}])
    rows = [("projects", place), ("conversations", talk), ("messages", line)]
    for table, row in rows:
        with db.user(alice) as request:
            assert request.upsert(table, [row]) == 1
    before = [stored(db, table, row) for table, row in rows]
    with broadcasts() as sent:
        for table, row in rows:
            with db.user(alice) as request:
                assert request.upsert(table, [row]) == 0
    assert sent == []
    assert [stored(db, table, row) for table, row in rows] == before


def test_a_lower_revision_is_dropped(db: Database, alice: str) -> None:
    """Whatever else it says."""
    talk = conversation(alice, revision=50)
    line = message(talk, 0, revision=50)
    with db.user(alice) as request:
        request.upsert("conversations", [talk])
        request.upsert("messages", [line])
        assert request.upsert("conversations", [talk | {"revision": 49, "title": "old"}]) == 0
        assert request.upsert("messages", [line | {"revision": 49, "text": "old"}]) == 0
    assert stored(db, "conversations", talk)["title"] == "Fix the cart"
    assert stored(db, "messages", line)["text"] == "line at 0"


def test_an_equal_revision_with_other_content_is_written(db: Database, alice: str) -> None:
    """A new version of this library may read the same bytes better."""
    talk = conversation(alice)
    line = message(talk, 0)
    with db.user(alice) as request:
        request.upsert("conversations", [talk])
        request.upsert("messages", [line])
        assert request.upsert("messages", [line | {"text": "better"}]) == 1
        assert request.upsert("conversations", [talk | {"title": None}]) == 1
    assert stored(db, "messages", line)["text"] == "better"
    assert stored(db, "conversations", talk)["title"] is None


def test_each_column_alone_makes_a_difference(db: Database, alice: str) -> None:
    """No column is forgotten in the comparison."""
    talk = conversation(alice)
    line = message(talk, 0)
    other = conversation(alice)
    differences: list[dict[str, Any]] = [
        {"conversation_id": other["id"]},
        {"seq": 5},
        {"revision": 91},
        {"role": "tool"},
        {"text": "x"},
        {"content": None},
        {"model": "claude"},
        {"created_at": None},
        {"usage": {"input_tokens": 1}},
        {"metadata": {"a": 1}},
        {"deleted_at": "2026-01-02T12:00:00Z"},
    ]
    assert {key for one in differences for key in one} == set(line) - {"id", "owner_id"}
    with db.user(alice) as request:
        request.upsert("conversations", [talk])
        request.upsert("conversations", [other])
        request.upsert("messages", [line])
        for difference in differences:
            line |= difference
            assert request.upsert("messages", [line]) == 1, difference
            assert request.upsert("messages", [line]) == 0, difference


def test_a_row_comes_back_by_an_empty_deleted_at(db: Database, alice: str) -> None:
    """A message that a transcript took back and says again lives again."""
    talk = conversation(alice)
    line = message(talk, 0)
    with db.user(alice) as request:
        request.upsert("conversations", [talk])
        request.upsert("messages", [line | {"deleted_at": "2026-01-02T12:00:00Z"}])
        request.upsert("messages", [line | {"revision": 91}])
    assert stored(db, "messages", line)["deleted_at"] is None


def test_bookkeeping_cannot_be_written(db: Database, alice: str) -> None:
    """A client that sets a change_ column sets nothing."""
    talk = conversation(alice)
    with db.user(alice) as request:
        request.upsert("conversations", [talk | {"change_tx": 1, "change_created_tx": 1}])
    before = stored(db, "conversations", talk)
    assert before["change_tx"] > 1
    assert before["change_created_tx"] == before["change_tx"]
    with db.user(alice) as request:
        written = request.upsert(
            "conversations", [talk | {"change_tx": 1, "change_seq": 1, "change_forgotten": True}]
        )
    assert written == 0
    assert stored(db, "conversations", talk) == before


@pytest.mark.parametrize("table", ["projects", "conversations", "messages"])
@pytest.mark.parametrize("column", ["id", "owner_id"])
def test_id_and_owner_never_change(
    db: Database, alice: str, mallory: str, table: str, column: str
) -> None:
    """Not even by the service role."""
    talk = conversation(alice)
    row = {
        "projects": project(alice),
        "conversations": talk,
        "messages": message(talk, 0),
    }[table]
    with db.user(alice) as request:
        if table == "messages":
            request.upsert("conversations", [talk])
        request.upsert(table, [row])
    with pytest.raises(psycopg.errors.CheckViolation, match="never change"), db.service() as own:
        own.rows(f"update public.{table} set {column} = %s where id = %s", mallory, row["id"])


def test_a_project_keeps_its_newest_time(db: Database, alice: str) -> None:
    """Machines and files tell in any order, some tell none."""
    place = project(alice)
    with db.user(alice) as request:
        request.upsert("projects", [place | {"updated_at": "2026-01-03T00:00:00Z"}])
        assert request.upsert("projects", [place | {"updated_at": "2026-01-02T00:00:00Z"}]) == 0
        assert request.upsert("projects", [place | {"updated_at": None}]) == 0
        assert request.upsert("projects", [place | {"name": "Shop"}]) == 1
    after = stored(db, "projects", place)
    assert (after["name"], after["updated_at"].day) == ("Shop", 3)


def test_a_project_is_as_new_as_its_newest_conversation(db: Database, alice: str) -> None:
    """And is not written when an older one arrives."""
    place = project(alice)
    old = conversation(alice, project_id=place["id"], updated_at="2026-01-02T00:00:00Z")
    new = conversation(alice, project_id=place["id"], updated_at="2026-01-04T00:00:00Z")
    with db.user(alice) as request:
        request.upsert("projects", [place])
        request.upsert("conversations", [new])
    before = stored(db, "projects", place)
    assert before["updated_at"].day == 4
    with db.user(alice) as request:
        request.upsert("conversations", [old])
        request.upsert("conversations", [old | {"updated_at": None, "revision": 101}])
    assert stored(db, "projects", place) == before


versions = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 4)), min_size=1, max_size=12
)  # (message, revision)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(writes=versions, order=st.randoms(use_true_random=False), again=versions)
def test_any_order_of_upserts_ends_in_the_same_rows(
    db: Database,
    alice: str,
    writes: list[tuple[int, int]],
    order: random.Random,
    again: list[tuple[int, int]],
) -> None:
    """Late, repeated and reordered writes are one and the same history."""
    ends = []
    repeats = [write for write in again if write in writes]
    shuffled = writes + repeats
    order.shuffle(shuffled)
    for history in (sorted(writes), shuffled):
        talk = conversation(alice)
        with db.user(alice) as request:
            request.upsert("conversations", [talk])
            for position, revision in history:
                text = f"{position} as of {revision}"
                request.upsert("messages", [message(talk, position, revision=revision, text=text)])
            query = (
                "select seq, revision, text from public.messages"
                " where conversation_id = %s order by seq"
            )
            ends.append(request.rows(query, talk["id"]))
    assert ends[0] == ends[1]
