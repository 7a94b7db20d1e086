"""Who may do what: an owner with their own, the service role with all, anybody else nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.sql.database import Database, Request
from tests.sql.rows import conversation, message, project

TABLES = ["projects", "conversations", "messages"]
CALLS = [
    "select public.changes_since()",
    "select public.schema_version()",
    "select public.conversation_digests('{}')",
]
Refused = psycopg.errors.InsufficientPrivilege


class Victim:
    """Alice with a project, a conversation and a message."""

    def __init__(self, db: Database, user: str) -> None:
        self.user = user
        self.project = project(user)
        self.conversation = conversation(user, project_id=self.project["id"])
        self.message = message(self.conversation, 0)
        self.rows = {
            "projects": self.project,
            "conversations": self.conversation,
            "messages": self.message,
        }
        with db.user(user) as request:
            for table, row in self.rows.items():
                request.upsert(table, [row])


@pytest.fixture
def victim(db: Database, alice: str) -> Victim:
    """Whom the attacks are on."""
    return Victim(db, alice)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("statement", ["select * from", "delete from", "truncate"])
def test_anonymous_visitors_are_refused(db: Database, table: str, statement: str) -> None:
    """Refused, not shown an empty table."""
    with pytest.raises(Refused), db.anonymous() as request:
        request.rows(f"{statement} public.{table}")


@pytest.mark.parametrize("call", CALLS)
def test_anonymous_visitors_call_nothing(db: Database, call: str) -> None:
    """The functions of the Data API need a user or the secret key."""
    with pytest.raises(Refused), db.anonymous() as request:
        request.rows(call)


@pytest.mark.parametrize("call", CALLS)
def test_users_and_the_service_role_call_them(db: Database, alice: str, call: str) -> None:
    """As themselves: the functions have no rights of their own."""
    with db.user(alice) as request:
        request.rows(call)
    with db.service() as request:
        request.rows(call)


def test_only_three_functions_can_be_called(db: Database) -> None:
    """The Data API exposes schema public: nothing else of ours is in it, none is a definer."""
    with db.postgres() as request:
        rows = request.rows(
            "select proname, prosecdef from pg_proc p"
            " where pronamespace = 'public'::regnamespace"
            " and obj_description(p.oid, 'pg_proc') like 'conv\\_realtime:%%' order by 1"
        )
    assert [(row["proname"], row["prosecdef"]) for row in rows] == [
        ("changes_since", False),
        ("conversation_digests", False),
        ("schema_version", False),
    ]


def test_definers_are_hidden_and_look_nowhere(db: Database) -> None:
    """Each function in conv_realtime has an empty search path; strangers may call two."""
    with db.postgres() as request:
        rows = request.rows(
            "select proname, proconfig, has_function_privilege('anon', oid, 'execute') as open"
            " from pg_proc where pronamespace = 'conv_realtime'::regnamespace"
        )
    assert len(rows) > 20
    assert [
        row["proname"] for row in rows if 'search_path=""' not in (row["proconfig"] or [])
    ] == []
    assert {row["proname"] for row in rows if row["open"]} == {"can_read", "is_ours"}


def test_row_security_is_on_everywhere(db: Database) -> None:
    """On the tables that nobody sees too."""
    with db.postgres() as request:
        rows = request.rows(
            "select relname, relrowsecurity from pg_class where relkind = 'r' and"
            " (relnamespace = 'conv_realtime'::regnamespace or obj_description(oid, 'pg_class')"
            " like 'conv\\_realtime:%%')"
        )
    assert {row["relname"]: row["relrowsecurity"] for row in rows} == dict.fromkeys(
        ["projects", "conversations", "messages", "streams", "versions"], True
    )


def test_grants_are_exactly_these(db: Database) -> None:
    """Users have no delete, truncate, trigger or references."""
    with db.postgres() as request:
        rows = request.rows(
            "select table_name, grantee, string_agg(privilege_type, ' ' order by privilege_type)"
            " as rights from information_schema.role_table_grants"
            " where table_schema = 'public' and table_name = any (%s)"
            " and grantee in ('PUBLIC', 'anon', 'authenticated') group by 1, 2",
            TABLES,
        )
        service = [
            request.value("select has_table_privilege('service_role', %s, 'delete')", table)
            for table in TABLES
        ]
    assert sorted((row["table_name"], row["grantee"], row["rights"]) for row in rows) == sorted(
        (table, "authenticated", "INSERT SELECT UPDATE") for table in TABLES
    )
    assert service == [True] * 3


def test_the_service_role_deletes(db: Database, victim: Victim) -> None:
    """A conversation goes with its messages."""
    with db.service() as request:
        request.rows("delete from public.conversations where id = %s", victim.conversation["id"])
        left = request.rows("select 1 from public.messages where id = %s", victim.message["id"])
    assert left == []


def test_the_owner_is_the_caller_by_default(db: Database, alice: str) -> None:
    """A signed-in writer need not say who they are."""
    row = conversation(alice)
    del row["owner_id"]
    with db.user(alice) as request:
        request.upsert("conversations", [row])
        assert request.value("select owner_id from public.conversations")


def test_the_service_role_must_name_an_owner(db: Database, alice: str) -> None:
    """A key is nobody: there is no row without an owner."""
    row = conversation(alice)
    del row["owner_id"]
    with pytest.raises(psycopg.errors.NotNullViolation), db.service() as request:
        request.upsert("conversations", [row])


@pytest.mark.parametrize("table", TABLES)
def test_a_stranger_reads_nothing(db: Database, victim: Victim, mallory: str, table: str) -> None:
    """Neither rows nor whether they exist."""
    with db.user(mallory) as request:
        assert request.rows(f"select * from public.{table}") == []
        assert request.changes("start")["changes"] == []
        digests = request.value(
            "select public.conversation_digests(%s::uuid[])", [victim.conversation["id"]]
        )
    assert digests == {}


@pytest.mark.parametrize("table", TABLES)
def test_a_stranger_changes_nothing(db: Database, victim: Victim, mallory: str, table: str) -> None:
    """An update finds no row, an upsert is refused, delete is nobody's."""
    row = victim.rows[table]
    with db.user(mallory) as request:
        written = request.rows(
            f"update public.{table} set metadata = '{{}}' where id = %s returning id", row["id"]
        )
        assert written == []
        # Without a condition no column is read, and only the policy of updates holds. Taken back:
        # it would hit every row of the project.
        all_rows = request.connection.execute(
            f'update public.{table} set metadata = \'{{"by": "mallory"}}\''.encode()
        )
        assert all_rows.rowcount == 0
        request.connection.rollback()
    with pytest.raises(Refused), db.user(mallory) as request:
        request.upsert(table, [row | {"metadata": {"by": "mallory"}}])
    with pytest.raises(Refused), db.user(mallory) as request:
        request.rows(f"delete from public.{table} where id = %s", row["id"])
    with db.user(victim.user) as request:
        assert request.value(f"select metadata from public.{table}") == {}


@pytest.mark.parametrize("table", TABLES)
def test_a_stranger_gives_nothing_away(db: Database, alice: str, mallory: str, table: str) -> None:
    """No row in Alice's name, and none handed over to her."""
    own = Victim(db, mallory)
    with pytest.raises(Refused), db.user(mallory) as request:
        request.upsert(table, [Victim(db, alice).rows[table] | {"metadata": {"x": 1}}])
    with pytest.raises(psycopg.Error, match="never change"), db.user(mallory) as request:
        request.rows(
            f"update public.{table} set owner_id = %s where id = %s", alice, own.rows[table]["id"]
        )


def test_a_stranger_learns_of_nothing_that_was_forgotten(
    db: Database, victim: Victim, mallory: str
) -> None:
    """A row in Alice's name is refused, and not dropped in silence where hers is forgotten."""
    with db.user(victim.user) as request:
        request.upsert("conversations", [victim.conversation | {"metadata": {"forgotten": True}}])
    with pytest.raises(Refused), db.user(mallory) as request:
        request.upsert("messages", [message(victim.conversation, 7)])


Attack = Callable[[Request, Victim, str], Any]


def hang_message(request: Request, victim: Victim, mallory: str) -> Any:
    """A message of Mallory's under Alice's conversation."""
    return request.upsert("messages", [message(victim.conversation, 7, owner_id=mallory)])


def hang_conversation(request: Request, victim: Victim, mallory: str) -> Any:
    """A conversation of Mallory's in Alice's project."""
    row = conversation(mallory, project_id=victim.project["id"])
    return request.upsert("conversations", [row])


def move_message(request: Request, victim: Victim, mallory: str) -> Any:
    """An own message moved to Alice's conversation."""
    own = conversation(mallory)
    request.upsert("conversations", [own])
    line = message(own, 0)
    request.upsert("messages", [line])
    return request.upsert("messages", [line | {"conversation_id": victim.conversation["id"]}])


@pytest.mark.parametrize("attack", [hang_message, hang_conversation, move_message])
def test_a_stranger_hangs_nothing_under_her_rows(
    db: Database, victim: Victim, mallory: str, attack: Attack
) -> None:
    """Keys hold the owner: another's row cannot be a parent."""
    with pytest.raises(psycopg.errors.ForeignKeyViolation), db.user(mallory) as request:
        attack(request, victim, mallory)


@pytest.mark.parametrize("first", ["mallory", "alice"])
def test_a_squatted_id_locks_nobody_out(db: Database, alice: str, mallory: str, first: str) -> None:
    """Rows of two owners may have one id; each writes and reads their own."""
    hers = message(conversation(alice), 0)
    parent = conversation(mallory)
    his = message(parent, 0) | {"id": hers["id"], "text": "mine"}
    place = project(alice)

    def squat() -> None:
        with db.user(mallory) as request:
            request.upsert("conversations", [parent])
            request.upsert("messages", [his])
            request.upsert("projects", [place | {"owner_id": mallory, "name": "mine"}])

    if first == "mallory":
        squat()
    with db.user(alice) as request:
        owned = conversation(alice)
        line = hers | {"conversation_id": owned["id"]}
        request.upsert("conversations", [owned])
        assert request.upsert("messages", [line]) == 1
        assert request.upsert("projects", [place]) == 1
    if first == "alice":
        squat()
    with db.user(alice) as request:
        assert request.upsert("messages", [line | {"text": "still hers"}]) == 1
        assert request.value("select text from public.messages") == "still hers"
        assert request.value("select name from public.projects") == "shop"
    with db.user(mallory) as request:
        assert request.value("select text from public.messages") == "mine"
