"""The schema through the Data API, as any client of the project meets it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from conv_realtime.sql import latest_version
from tests.project import Owner, SupabaseProject
from tests.sql.rows import conversation, message, project

TABLES = ["projects", "conversations", "messages"]


class Caller:
    """Requests with one key and, for a user, one token."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def upsert(self, table: str, *rows: dict[str, Any]) -> httpx.Response:
        """Upserts on the primary key and asks for the rows that were written."""
        prefer = {"prefer": "resolution=merge-duplicates,return=representation"}
        return self._http.post(f"/rest/v1/{table}", json=rows, headers=prefer)

    def written(self, table: str, *rows: dict[str, Any]) -> int:
        """Upserts; gives how many rows were written."""
        answer = self.upsert(table, *rows)
        assert answer.is_success, answer.text
        return len(answer.json())

    def select(self, table: str, query: str = "") -> httpx.Response:
        """Reads rows."""
        return self._http.get(f"/rest/v1/{table}?{query}")

    def call(self, function: str, **arguments: Any) -> httpx.Response:
        """Calls a function."""
        return self._http.post(f"/rest/v1/rpc/{function}", json=arguments)

    def delete(self, table: str, query: str) -> httpx.Response:
        """Deletes rows."""
        return self._http.delete(f"/rest/v1/{table}?{query}")

    def changes(self, cursor: str | None, max_rows: int = 500) -> dict[str, Any]:
        """Gives the answer of `changes_since`."""
        answer = self.call("changes_since", cursor=cursor, max_rows=max_rows)
        assert answer.is_success, answer.text
        page: dict[str, Any] = answer.json()
        return page


@pytest.fixture
def user(supabase: SupabaseProject, member: Owner) -> Iterator[Caller]:
    """The signed-in member."""
    with supabase.http(supabase.publishable_key, member.token) as http:
        yield Caller(http)


@pytest.fixture
def stranger(supabase: SupabaseProject) -> Iterator[Caller]:
    """Another signed-in user."""
    with supabase.http(supabase.publishable_key, supabase.member().token) as http:
        yield Caller(http)


@pytest.fixture
def anonymous(supabase: SupabaseProject) -> Iterator[Caller]:
    """Whoever has the publishable key."""
    with supabase.http(supabase.publishable_key) as http:
        yield Caller(http)


@pytest.fixture
def service(supabase: SupabaseProject) -> Iterator[Caller]:
    """The secret key."""
    with supabase.http(supabase.secret_key) as http:
        yield Caller(http)


def test_the_schema_tells_its_version(user: Caller, service: Caller) -> None:
    """To whoever may read, as the library asks before it writes."""
    for caller in (user, service):
        assert caller.call("schema_version").json() == latest_version()


def test_the_same_rows_again_write_nothing(user: Caller, member: Owner) -> None:
    """Nothing is written, the cursor does not move, a lower revision is dropped."""
    shop = project(member.id)
    talk = conversation(member.id, project_id=shop["id"])
    lines = [message(talk, position) for position in (0, 100)]
    batch = [("projects", [shop]), ("conversations", [talk]), ("messages", lines)]
    assert [user.written(table, *rows) for table, rows in batch] == [1, 1, 2]
    before = user.changes("start")
    assert [user.written(table, *rows) for table, rows in batch] == [0, 0, 0]
    assert user.written("messages", lines[0] | {"revision": 1, "text": "older"}) == 0
    assert user.changes(before["cursor"])["changes"] == []
    assert user.written("messages", lines[0] | {"text": "other"}) == 1
    (change,) = user.changes(before["cursor"])["changes"]
    assert (change["table"], change["created"]) == ("messages", False)
    assert change["row"]["text"] == "other"


def test_changes_come_page_by_page(user: Caller, member: Owner) -> None:
    """Each row once, whole, in the order in which it was written."""
    talk = conversation(member.id)
    lines = [message(talk, position, text="é 😀" * 10) for position in range(7)]
    user.written("conversations", talk)
    for line in lines:
        assert user.written("messages", line) == 1
    ids, cursor, more = [], "start", True
    while more:
        page = user.changes(cursor, 3)
        assert not page["resync"]
        ids += [change["row"]["id"] for change in page["changes"]]
        cursor, more = page["cursor"], page["more"]
    assert ids == [talk["id"], *(line["id"] for line in lines)]
    assert user.changes("0123456789abcdef.1")["resync"] is True


@pytest.mark.parametrize("table", TABLES)
def test_the_publishable_key_alone_is_refused(anonymous: Caller, table: str) -> None:
    """Refused, not shown an empty table."""
    answer = anonymous.select(table)
    assert (answer.status_code, answer.json()["code"]) == (401, "42501")


@pytest.mark.parametrize("function", ["changes_since", "schema_version"])
def test_the_publishable_key_alone_calls_nothing(anonymous: Caller, function: str) -> None:
    """The functions need a user or the secret key."""
    answer = anonymous.call(function)
    assert (answer.status_code, answer.json()["code"]) == (401, "42501")


def test_a_stranger_sees_and_changes_nothing(user: Caller, stranger: Caller, member: Owner) -> None:
    """Reads are empty; writing into another's name is refused."""
    talk = conversation(member.id)
    user.written("conversations", talk)
    user.written("messages", message(talk, 0))
    for table in TABLES:
        assert stranger.select(table).json() == []
    assert stranger.changes("start")["changes"] == []
    for table, row in (("conversations", talk), ("messages", message(talk, 0))):
        refused = stranger.upsert(table, row | {"metadata": {"by": "a stranger"}})
        assert (refused.status_code, refused.json()["code"]) == (403, "42501")
    assert user.select("conversations", "select=metadata").json() == [{"metadata": {}}]


def test_the_owner_is_the_caller_and_does_not_delete(user: Caller, member: Owner) -> None:
    """A writer need not say who they are; rows go by `deleted_at` alone."""
    talk = conversation(member.id)
    del talk["owner_id"]
    assert user.written("conversations", talk) == 1
    (row,) = user.select("conversations", "select=owner_id").json()
    assert row["owner_id"] == member.id
    answer = user.delete("conversations", f"id=eq.{talk['id']}")
    assert (answer.status_code, answer.json()["code"]) == (403, "42501")


def test_an_id_that_does_not_follow_from_its_row_is_refused(user: Caller, member: Owner) -> None:
    """Who could choose ids could take another's channel."""
    talk = conversation(member.id) | {"session_id": "another"}
    answer = user.upsert("conversations", talk)
    assert (answer.status_code, answer.json()["code"]) == (400, "23514")


def test_a_missing_parent_fails_the_whole_batch(user: Caller, member: Owner) -> None:
    """One request is one transaction."""
    talk, other = conversation(member.id), conversation(member.id)
    user.written("conversations", talk)
    batch = [message(talk, 0), message(other, 0)]
    answer = user.upsert("messages", *sorted(batch, key=lambda row: row["conversation_id"]))
    assert answer.json()["code"] == "23503"
    assert user.select("messages").json() == []


def test_digests_and_deletion_by_the_service(user: Caller, service: Caller, member: Owner) -> None:
    """What `verify` compares, and what only the secret key may take away."""
    talk = conversation(member.id)
    user.written("conversations", talk)
    user.written("messages", message(talk, 0))
    ids = [talk["id"], str(uuid4())]
    digests = user.call("conversation_digests", ids=ids).json()
    assert [(id, digest["messages"]) for id, digest in digests.items()] == [(talk["id"], 1)]
    answer = service.delete("conversations", f"owner_id=eq.{member.id}")
    assert answer.is_success
    assert user.select("messages").json() == []
