"""Rows come with the rows of related tables, as PostgREST gives them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest
from postgrest import AsyncPostgrestClient

from conv_realtime.local import LocalSupabase
from tests.conftest import Owner

SCHEMA = """
create table em_authors (id int primary key, name text);
create table em_books (
  id int primary key, title text, rank int,
  author int references em_authors, editor int references em_authors, parent int references em_books
);
create table em_covers (book int primary key references em_books, colour text);
create table em_tags (id int primary key, word text);
create table em_tagged (book int references em_books, tag int references em_tags,
  primary key (book, tag));
create table em_alone (id int primary key);
create function em_all_books() returns setof em_books language sql stable as 'table em_books';
insert into em_authors values (1, 'Ann'), (2, 'Ben'), (3, 'Cy');
insert into em_books values (1, 'One', 3, 1, 2, null), (2, 'Two', 2, 1, null, 1),
  (3, 'Three', 1, 2, null, 1), (4, 'Four', 0, null, null, null);
insert into em_covers values (1, 'red');
insert into em_tags values (1, 'x'), (2, 'y');
insert into em_tagged values (1, 1), (1, 2), (2, 1);
"""
BY = "author:em_authors!em_books_author_fkey"
ANN, BEN = {"name": "Ann"}, {"name": "Ben"}


@pytest.fixture(scope="module")
def tables(local_supabase: LocalSupabase) -> None:
    """Tables with every kind of relation."""
    with psycopg.connect(local_supabase.db_url) as connection:
        connection.execute(SCHEMA.encode())


@pytest.fixture
async def api(local_supabase: LocalSupabase, tables: None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the Data API that may see all rows."""
    headers = {"apikey": local_supabase.secret_key}
    base = f"{local_supabase.url}/rest/v1"
    async with httpx.AsyncClient(base_url=base, headers=headers) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        (f"em_books?select=id,{BY}(name)&id=in.(1,4)", [(1, ANN), (4, None)]),
        (f"em_books?select=id,{BY}!inner(name)&id=gt.2", [(3, BEN)]),
        ("em_books?select=id,author(name)&id=eq.1", [(1, ANN)]),
        ("em_authors?select=id,em_books!author(id)&id=gt.1", [(2, [{"id": 3}]), (3, [])]),
        ("em_authors?select=id,em_books!author!inner(id)&id=gt.1", [(2, [{"id": 3}])]),
        ("em_books?select=id,em_covers(colour)&id=lt.3", [(1, {"colour": "red"}), (2, None)]),
        ("em_covers?select=book,em_books(id)", [(1, {"id": 1})]),
        ("em_books?select=id,em_tags(word)&id=eq.2", [(2, [{"word": "x"}])]),
        ("em_tags?select=id,em_books(id)&id=eq.2", [(2, [{"id": 1}])]),
        ("em_books?select=id,parent(id)&id=eq.2", [(2, {"id": 1})]),
        ("em_books?select=id,em_books(id)&id=eq.1", [(1, [{"id": 2}, {"id": 3}])]),
        ("em_books?select=id,...author(name)&id=eq.1", [(1, "Ann")]),
        ("em_authors?select=id,em_books!author(count)&id=eq.1", [(1, [{"count": 2}])]),
        ("em_authors?select=id,em_books!author(id)&id=eq.1&em_books.rank=gt.2", [(1, [{"id": 1}])]),
        ("em_authors?select=id,em_books!author(id)&id=eq.1&em_books.order=rank&em_books.limit=1",
         [(1, [{"id": 2}])]),
        ("em_authors?select=id,em_books!author(id)&id=eq.1&em_books.or=(id.eq.2,id.eq.9)",
         [(1, [{"id": 2}])]),
        ("em_authors?select=id,em_books!author(id)&id=eq.1&em_books.limit=0", [(1, [])]),
        (f"em_books?select=id,{BY}(name)&author=is.null", [(4, None)]),
        ("em_authors?select=id,em_books!author()&em_books=is.null", [(3,)]),
        ("em_authors?select=id,b:em_books!author()&b=not.is.null&id=gt.1", [(2,)]),
        ("em_authors?select=id,em_books!author(author(name))&id=eq.2",
         [(2, [{"author": BEN}])]),
        ("rpc/em_all_books?select=id,author(name)&id=eq.1", [(1, ANN)]),
    ],
)  # fmt: skip
async def test_related_rows(api: httpx.AsyncClient, path: str, rows: list[tuple[Any, ...]]) -> None:
    """Each relation gives an object or a list, and the parameters of its table shape it."""
    answer = await api.get(f"/{path}")
    assert answer.status_code == 200, answer.text
    assert [tuple(row.values()) for row in answer.json()] == rows


async def test_rows_can_be_ordered_by_the_one_related_row(api: httpx.AsyncClient) -> None:
    """Where there is one row, its column orders; where there are many, it cannot."""
    by = "author:em_authors!em_books_author_fkey(name)"
    answer = await api.get(f"/em_books?select=id,{by}&order=author(name).desc.nullslast,id")
    assert [row["id"] for row in answer.json()] == [3, 1, 2, 4]
    many = await api.get("/em_authors?select=id,em_books!author(id)&order=em_books(id)")
    assert (many.status_code, many.json()["code"]) == (400, "PGRST118")


async def test_an_inner_join_is_counted(api: httpx.AsyncClient) -> None:
    """The total is of the rows that have related ones."""
    wish = {"Prefer": "count=exact"}
    path = "/em_books?select=id,em_covers!inner(colour)"
    assert (await api.get(path, headers=wish)).headers["content-range"] == "0-0/1"
    path = "/em_books?select=id,em_covers()&em_covers=is.null"
    assert (await api.get(path, headers=wish)).headers["content-range"] == "0-2/3"


async def test_a_write_answers_with_related_rows(api: httpx.AsyncClient) -> None:
    """`insert(...).select('*, related(...)')` needs no second request."""
    wish = {"Prefer": "return=representation"}
    row = {"id": 90, "author": 2}
    made = await api.post("/em_books?select=id,author(name)", json=row, headers=wish)
    assert made.json() == [{"id": 90, "author": BEN}]
    gone = await api.delete("/em_books?id=eq.90&select=author(name)", headers=wish)
    assert gone.json() == [{"author": BEN}]


async def test_what_is_not_clear_is_told(api: httpx.AsyncClient) -> None:
    """Several relations name their hints, none names what was looked for."""
    several = await api.get("/em_books?select=em_authors(*)")
    assert several.status_code == 300
    assert several.json() == {
        "code": "PGRST201",
        "details": [
            {
                "cardinality": "many-to-one",
                "embedding": "em_books with em_authors",
                "relationship": f"em_books_{name}_fkey using em_books({name}) and em_authors(id)",
            }
            for name in ("author", "editor")
        ],
        "hint": "Try changing 'em_authors' to one of the following: "
        "'em_authors!em_books_author_fkey', 'em_authors!em_books_editor_fkey'. "
        "Find the desired relationship in the 'details' key.",
        "message": "Could not embed because more than one relationship was found for "
        "'em_books' and 'em_authors'",
    }
    none = await api.get("/em_books?select=em_tag(*)")
    assert none.status_code == 400
    assert none.json() == {
        "code": "PGRST200",
        "details": "Searched for a foreign key relationship between 'em_books' and 'em_tag' "
        "in the schema 'public', but no matches were found.",
        "hint": "Perhaps you meant 'em_tags' instead of 'em_tag'.",
        "message": "Could not find a relationship between 'em_books' and 'em_tag' "
        "in the schema cache",
    }


async def test_long_names_are_not_mixed_up(
    local_supabase: LocalSupabase, api: httpx.AsyncClient
) -> None:
    """PostgreSQL cuts names after 63 bytes: those of tables in a query stay apart all the same."""
    long, note = "em_long_" + "x" * 55, "em_note_" + "y" * 40
    with psycopg.connect(local_supabase.db_url) as connection:
        connection.execute(
            f"create table {long} (id int primary key, above int references {long});"
            f"create table {note}_1 (id int primary key, row int references {long});"
            f"create table {note}_2 (id int primary key, row int references {long});"
            f"insert into {long} values (1, null), (2, 1), (3, 2);"
            f"insert into {note}_1 values (7, 1); insert into {note}_2 values (8, 1)".encode()
        )
    select = f"id,first:{note}_1(id),second:{note}_2(id),{long}(id,{long}(id))"
    answer = await api.get(f"/{long}", params={"select": select, "id": "eq.1"})
    assert answer.json() == [
        {"id": 1, "first": [{"id": 7}], "second": [{"id": 8}], long: [{"id": 2, long: [{"id": 3}]}]}
    ]


async def test_a_hundred_related_tables_are_planned_in_time(api: httpx.AsyncClient) -> None:
    """As many as are allowed end before the timeout does."""
    wide = ",".join(f"n{n}:em_books!author(id)" for n in range(100))
    answer = await api.get(f"/em_authors?select={wide}&id=eq.3")
    assert answer.json() == [{f"n{n}": [] for n in range(100)}]


async def test_a_relation_made_later_is_known_at_once(
    api: httpx.AsyncClient, local_supabase: LocalSupabase
) -> None:
    """A foreign key that `db_url` adds is there for the next request."""
    assert (await api.get("/em_alone?select=em_tags(*)")).status_code == 400
    async with await psycopg.AsyncConnection.connect(local_supabase.db_url) as connection:
        await connection.execute("alter table em_alone add foreign key (id) references em_tags")
    assert (await api.get("/em_alone?select=em_tags(*)")).status_code == 200


async def test_row_level_security_holds_for_related_rows(
    local_supabase: LocalSupabase, owner: Owner
) -> None:
    """A frontend of this library reads messages with their conversation, and nobody else's."""
    session, conversation = str(uuid.uuid4()), str(uuid.uuid4())
    async with await psycopg.AsyncConnection.connect(local_supabase.db_url) as db:
        await db.execute(
            "insert into conversations (id, owner_id, source, machine, session_id, title, revision)"
            " values (%s, %s, 'claude_code', 'm', %s, 'Title', 1)",
            (conversation, owner.id, session),
        )
        await db.execute(
            "insert into messages (id, owner_id, conversation_id, seq, revision, role, text)"
            " values (%s, %s, %s, 0, 1, 'user', 'Hello')",
            (str(uuid.uuid4()), owner.id, conversation),
        )
    base = f"{local_supabase.url}/rest/v1"
    for token, seen in ((owner.token, 1), (local_supabase.token(sub=uuid.uuid4()), 0)):
        async with AsyncPostgrestClient(base) as client:
            client.auth(token)
            messages = client.table("messages").select("text, conversations(title)")
            rows = (await messages.eq("conversation_id", conversation).execute()).data
            assert rows == [{"text": "Hello", "conversations": {"title": "Title"}}][:seen]
            lists = client.table("conversations").select("title, messages(text)")
            rows = (await lists.eq("messages.role", "user").execute()).data
            assert rows == [{"title": "Title", "messages": [{"text": "Hello"}]}][:seen]
