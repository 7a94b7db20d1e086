"""`changes_since` misses nothing, doubles nothing, and tells who must start again."""

from __future__ import annotations

import random
import threading
import time
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from conv_realtime.models import Conversation, Message, Project
from tests.sql.database import Database, Request
from tests.sql.rows import conversation, message, project


def place(cursor: str) -> list[int]:
    """A cursor's position, as it compares."""
    return [int(part) for part in cursor.partition(".")[2].split("-")]


def seen(answer: dict[str, Any]) -> list[str]:
    """The ids of an answer, in its order."""
    return [change["row"]["id"] for change in answer["changes"]]


def head(db: Database, user: str) -> str:
    """Where `user` is now."""
    with db.user(user) as request:
        return str(request.changes(None)["cursor"])


def drain(db: Database, user: str, cursor: str, max_rows: int = 500) -> tuple[list[str], str]:
    """Reads to the end; gives the ids and the cursor there."""
    ids: list[str] = []
    while True:
        with db.user(user) as request:
            answer = request.changes(cursor, max_rows)
        assert not answer["resync"]
        ids += seen(answer)
        cursor = answer["cursor"]
        if not answer["more"]:
            return ids, cursor


def test_reading_goes_on_behind_any_row_of_a_page(db: Database, alice: str, mallory: str) -> None:
    """From its own cursor, within a transaction too: the rest comes, each row once."""
    talks = [conversation(user) for user in (alice, mallory)]
    with db.service() as request:
        cursor = str(request.changes(None)["cursor"])
        request.upsert("projects", [project(alice)])
        for talk in talks:
            request.upsert("conversations", [talk])
            request.upsert("messages", [message(talk, position) for position in range(4)])
    with db.user(alice) as request:
        request.upsert("messages", [message(talks[0], position) for position in (7, 5, 6)])
    for reader in (db.service, partial(db.user, alice)):
        with reader() as request:
            answer = request.changes(cursor)
            ids = seen(answer)
            for number, change in enumerate(answer["changes"], start=1):
                rest = request.changes(change["cursor"])
                assert seen(rest) == ids[number:]
                assert [one["cursor"] for one in rest["changes"]] == [
                    one["cursor"] for one in answer["changes"][number:]
                ]
    assert len(ids) == 9


def test_null_is_the_head_alone(db: Database, alice: str) -> None:
    """Who starts now gets a cursor and no past."""
    with db.user(alice) as request:
        request.upsert("projects", [project(alice)])
    with db.user(alice) as request:
        answer = request.changes(None)
        assert answer == {"changes": [], "cursor": answer["cursor"], "more": False, "resync": False}
        assert request.changes(answer["cursor"])["changes"] == []


def test_rows_come_whole_and_in_order(db: Database, alice: str) -> None:
    """Projects, conversations, messages by revision; each row is one of the models'."""
    shop = project(alice)
    talk = conversation(alice, project_id=shop["id"], message_count=3)
    lines = [message(talk, position) for position in (200, 0, 100)]
    with db.user(alice) as request:
        request.upsert("projects", [shop])
        request.upsert("conversations", [talk])
        request.upsert("messages", lines)
        request.upsert("conversations", [talk | {"revision": 101}])
    with db.user(alice) as request:
        answer = request.changes("start")
    tables = [change["table"] for change in answer["changes"]]
    assert tables == ["projects", "conversations", "messages", "messages", "messages"]
    assert all(change["created"] for change in answer["changes"])
    rows = [change["row"] for change in answer["changes"]]
    assert [row["seq"] for row in rows[2:]] == [0, 100, 200]
    assert rows[0].keys() == Project.model_fields.keys()
    assert rows[1].keys() == Conversation.model_fields.keys()
    assert rows[2].keys() == Message.model_fields.keys()
    assert rows[0]["conversation_count"] == 1
    assert rows[0]["status"] == "inactive"
    assert (rows[1]["revision"], rows[1]["project_name"]) == (101, "shop")
    assert rows[2]["project_id"] == shop["id"]
    assert rows[2]["conversation"] == {
        "id": talk["id"],
        "title": "Fix the cart",
        "source": "claude-code",
        "project_name": "shop",
        "status": "active",
        "activity": "working",
        "message_count": 3,
    }
    assert rows[2]["created_at"] == "2026-01-02T12:00:00+00:00"
    assert Message.model_validate(rows[2]).to_row() == lines[1]


@pytest.mark.parametrize("max_rows", [1, 2, 3, 1000])
def test_pages_of_any_size_add_up(db: Database, alice: str, max_rows: int) -> None:
    """Every row once, also where a page ends within a transaction or between tables."""
    expected = []
    for transaction in range(3):
        with db.user(alice) as request:
            shop = project(alice, f"/{transaction}")
            talk = conversation(alice, project_id=shop["id"], revision=transaction)
            lines = [message(talk, position) for position in range(4)]
            request.upsert("projects", [shop])
            request.upsert("conversations", [talk])
            request.upsert("messages", random.sample(lines, len(lines)))
        expected += [row["id"] for row in (shop, talk, *lines)]
    ids, cursor = drain(db, alice, "start", max_rows)
    assert ids == expected
    assert drain(db, alice, cursor)[0] == []


def test_cursors_rise(db: Database, alice: str) -> None:
    """Positions compared as arrays of integers are in reading order."""
    talk = conversation(alice)
    cursors = [head(db, alice)]
    with db.user(alice) as request:
        request.upsert("conversations", [talk])
        request.upsert("messages", [message(talk, position) for position in range(5)])
    more = True
    while more:
        with db.user(alice) as request:
            answer = request.changes(cursors[-1], 1)
        cursors.append(answer["cursor"])
        more = answer["more"]
    places = [place(cursor) for cursor in cursors]
    assert len(places) == 7
    assert places == sorted(places)


def test_a_changed_row_comes_once_at_its_newest_place(db: Database, alice: str) -> None:
    """Created for who began before it, changed for who knew it."""
    talk = conversation(alice)
    before = head(db, alice)
    with db.user(alice) as request:
        request.upsert("conversations", [talk])
    between = head(db, alice)
    with db.user(alice) as request:
        request.upsert("conversations", [talk | {"revision": 101}])
    for cursor, created in ((before, True), (between, False), ("start", True)):
        with db.user(alice) as request:
            changes = request.changes(cursor)["changes"]
        assert [(one["row"]["revision"], one["created"]) for one in changes] == [(101, created)]


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        ".",
        "start.",
        "0123456789abcdef.1",
        "{stream}",
        "{stream}.",
        "{stream}.-1",
        "{stream}.1-4-1-1",
        "{stream}.1-2-3",
        "{stream}.9999999999999999999",
        "{stream}.999999999999999999",
        "{stream}.1.2",
        "{stream}.1'; drop table messages",
    ],
)
def test_what_is_no_cursor_here_answers_resync(db: Database, alice: str, cursor: str) -> None:
    """No error: the reader fetches again and goes on from the cursor in the answer."""
    now = head(db, alice)
    with db.user(alice) as request:
        answer = request.changes(cursor.format(stream=now.partition(".")[0]))
        assert (answer["changes"], answer["more"], answer["resync"]) == ([], False, True)
        assert place(answer["cursor"]) >= place(now)
        assert request.changes(answer["cursor"])["resync"] is False


def test_a_cursor_moves_over_rows_alone(db: Database, alice: str, mallory: str) -> None:
    """Others' rows, silent writes and whatever else takes transactions leave it where it is."""
    talk = conversation(alice)
    with db.user(alice) as request:
        request.upsert("conversations", [talk])
    before = head(db, alice)
    with db.user(mallory) as request:
        request.upsert("conversations", [conversation(mallory)])
    with db.user(alice) as request:
        request.upsert("conversations", [talk])
    assert drain(db, alice, before) == ([], before)
    assert head(db, alice) == before
    with db.user(alice) as request:
        request.upsert("conversations", [talk | {"revision": talk["revision"] + 1}])
    ids, after = drain(db, alice, before)
    assert ids == [talk["id"]]
    assert place(after) > place(before)
    assert head(db, alice) == after


def test_an_empty_database_has_a_head(db: Database, alice: str) -> None:
    """Who starts before the first row misses none."""
    start = head(db, alice)
    talk = conversation(alice)
    with db.user(alice) as request:
        request.upsert("conversations", [talk])
        answer = request.changes(start)
    assert answer["changes"] == []  # the writer's own transaction still runs
    with db.user(alice) as request:
        (change,) = request.changes(start)["changes"]
    assert (change["row"]["id"], change["created"]) == (talk["id"], True)


def test_a_read_only_transaction_can_read(db: Database, alice: str) -> None:
    """PostgREST calls stable functions in one."""
    with db.user(alice) as request:
        request.upsert("conversations", [conversation(alice)])
    with db.user(alice) as request:
        request.rows("set transaction read only")
        assert len(request.changes("start")["changes"]) == 1


def test_an_older_open_transaction_is_waited_for(db: Database, alice: str) -> None:
    """The newer one shows only together with it: otherwise the older would be lost."""
    late, early = conversation(alice), conversation(alice)
    cursor = head(db, alice)
    with db.user(alice) as slow:
        slow.upsert("conversations", [late])
        with db.user(alice) as quick:
            quick.upsert("conversations", [early])
        ids, cursor = drain(db, alice, cursor)
        assert ids == []
    ids, cursor = drain(db, alice, cursor)
    assert ids == [late["id"], early["id"]]


def test_a_target_beyond_the_horizon_is_no_error(db: Database, alice: str) -> None:
    """Realtime may announce what a reader cannot see yet: it gets its cursor back."""
    stream = head(db, alice).partition(".")[0]
    with db.user(alice) as request:
        now = int(request.value("select pg_snapshot_xmax(pg_current_snapshot())::text"))
    ahead = f"{stream}.{now + 5}"
    with db.user(alice) as request:
        answer = request.changes(ahead)
    assert answer == {"changes": [], "cursor": ahead, "more": False, "resync": False}


def test_concurrent_writers_and_a_polling_reader_lose_nothing(db: Database, alice: str) -> None:
    """Transactions that commit in another order than they began, while somebody reads."""
    talk = conversation(alice)
    with db.user(alice) as request:
        request.upsert("conversations", [talk])
    cursor = head(db, alice)
    writers, rounds = 4, 12
    done = threading.Event()
    errors: list[BaseException] = []
    barrier = threading.Barrier(writers)

    def write(number: int) -> None:
        choose = random.Random(number)
        try:
            for turn in range(rounds):
                barrier.wait(30)
                with ExitStack() as stack:
                    open_now = [stack.enter_context(db.user(alice)) for _ in range(2)]
                    for index in choose.sample(range(2), 2):
                        position = (turn * writers + number) * 2 + index
                        open_now[index].upsert("messages", [message(talk, position)])
                    for request in choose.sample(open_now, 2):
                        request.connection.commit()
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    reader_ids: list[str] = []

    def read() -> None:
        nonlocal cursor
        try:
            last = False
            while not last:
                last = done.is_set()
                ids, cursor = drain(db, alice, cursor, 3)
                reader_ids.extend(ids)
        except BaseException as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    for thread in (*threads, reader):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    reader.join()
    assert errors == []
    ids, _ = drain(db, alice, cursor)
    reader_ids.extend(ids)
    expected = [message(talk, position)["id"] for position in range(writers * rounds * 2)]
    assert sorted(reader_ids) == sorted(expected)


def test_a_page_of_long_rows_ends_early(db: Database, alice: str) -> None:
    """No answer grows without bound, and none of the rows is lost by it."""
    talk = conversation(alice)
    text = "long " * 300_000
    lines = [message(talk, position, text=text) for position in range(5)]
    with db.user(alice) as request:
        request.upsert("conversations", [talk])
        request.upsert("messages", lines)
    with db.user(alice) as request:
        first = request.changes("start")
    assert first["more"]
    assert len(first["changes"]) < 6
    ids, _ = drain(db, alice, "start")
    assert ids == [talk["id"], *(line["id"] for line in lines)]


def test_others_rows_are_not_read(db: Database, alice: str, mallory: str) -> None:
    """The service role alone reads everybody's."""
    with db.service() as request:
        cursor = str(request.changes(None)["cursor"])
    hers, his = conversation(alice), conversation(mallory)
    for user, row in ((alice, hers), (mallory, his)):
        with db.user(user) as request:
            request.upsert("conversations", [row])
    assert drain(db, alice, cursor)[0] == [hers["id"]]
    assert drain(db, mallory, cursor)[0] == [his["id"]]
    with db.service() as request:
        assert seen(request.changes(cursor)) == [hers["id"], his["id"]]


@pytest.fixture
def crowd(db: Database, mallory: str) -> dict[str, Any]:
    """A conversation of 20,000 messages of somebody else, that no statistics know of yet."""
    talk = conversation(mallory)
    with db.service({"x-conv-realtime-history": "1"}) as request:
        request.upsert("conversations", [talk])
        request.rows(
            "insert into public.messages (id, owner_id, conversation_id, seq, revision, role)"
            " select gen_random_uuid(), %s, %s, n, n, 'user' from generate_series(1, 20000) n",
            talk["owner_id"],
            talk["id"],
        )
    return talk


def cost(request: Request, cursor: str | None, max_rows: int) -> int:
    """How many rows of messages were touched by reading a page."""
    query = (
        "select seq_tup_read + coalesce(idx_tup_fetch, 0) from pg_stat_xact_user_tables"
        " where relid = 'public.messages'::regclass"
    )
    before = request.value(query)
    request.changes(cursor, max_rows)
    return int(request.value(query) - before)


@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
def test_a_page_costs_what_it_holds(
    db: Database, alice: str, crowd: dict[str, Any], plan: str
) -> None:
    """For an owner of few rows among many, one of many, and the service role.

    Whatever the planner knows: by a plan made for the page and by one kept for all pages.
    """
    talk = conversation(alice)
    with db.user(alice) as request:
        request.upsert("conversations", [talk])
        request.upsert("messages", [message(talk, position) for position in range(5)])
    # A transaction of the server's own, such as autovacuum's, may hold them back for a moment.
    deadline = time.monotonic() + 30
    ids, now = drain(db, alice, "start")
    while len(ids) < 6 and time.monotonic() < deadline:
        ids, now = drain(db, alice, "start")
    # While a plan is made, the planner itself may fetch the rows at both ends of an index.
    planner = 4 if plan == "force_custom_plan" else 0
    for context, most in (
        (db.user(alice), 20),
        (db.user(crowd["owner_id"]), 2_000),
        (db.service(), 2_000),
    ):
        with context as request:
            request.rows("select set_config('plan_cache_mode', %s, true)", plan)
            assert cost(request, "start", 500) <= most
            assert cost(request, now, 500) <= planner
            assert cost(request, None, 500) <= 4
