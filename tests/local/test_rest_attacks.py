"""Whatever a stranger puts into a URL, a header or a body, it is data, and answered in time."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx
import psycopg
import pytest

from conv_realtime.local import LocalSupabase
from tests.conftest import Owner

PIECES = [
    *"\"'\\;(){}[],.:!*%_é😀\u0663\ufeff\n\x00 ",
    *("--", "/*", "*/", "->", "->>", "--1", "::", "...", "$1", "$$", "9" * 400, "null", "eq.1"),
    *("not.", "in.(1,2)", "is.null", "and(", "or(", "a", "doc", "hostile", "hostile_kin(", "count"),
    *("pg_sleep(1)", "name collate", "::regclass", "::setof text", "fts(').x", "like(any).{a}"),
    *("row_to_json", "tableoid", "xmin", " as ", "limit", "current_user", "version()"),
]
KEYS = [
    *("select", "order", "and", "or", "not.or", "limit", "offset", "columns", "on_conflict"),
    *("a", "doc", "doc->a", "hostile_kin.order", "hostile_kin.id", "apikey"),
]
FITTING = [
    *(("select", "doc->{}"), ("select", 'x:doc->>"{}"'), ("select", '"{}":a'), ("select", "a::{}")),
    *(("order", "doc->{}.desc"), ("or", "(doc->>{}.eq.1,a.eq.1)"), ("or", '(doc.eq."{}",a.eq.1)')),
    *(("doc->>{}", "eq.1"), ("doc->>x", "eq.{}"), ("doc->>x", "in.({},b)"), ("doc->>x", "like.{}")),
    *(
        ("doc->>x", "fts.{}"),
        ("limit", "{}"),
        ("offset", "{}"),
        ("select", "a,hostile_kin(id::{})"),
    ),
    *(("select", "a,{}:hostile_kin(id)"), ("select", 'a,"{}":hostile_kin(id)')),
]
"""Places where a request stays one that can be answered."""

HEADERS = [
    ("Prefer", "return=representation,count=exact"),
    ("Prefer", "return=headers-only,missing=default"),
    ("Prefer", "resolution=merge-duplicates,return=representation"),
    ("Prefer", "timezone='; drop table hostile; --"),
    ("Range", "1-"),
    ("Accept", "text/csv"),
    ("Accept", "application/vnd.pgrst.object+json"),
    ("Content-Type", "text/csv"),
    ("x-anything", "'; select set_config('role', 'service_role', false); --"),
]
BODIES = [
    '{"a": 1}',
    '[{"a": 1, "doc": {}}]',
    "[]",
    "{}",
    "null",
    "[1]",
    '{"a\\"; drop": 1}',
    "a,b",
]
SCHEMA = """
create table hostile (a int primary key, doc jsonb);
create table hostile_kin (id int primary key, kin int references hostile);
create function hostile_add(a int, b int default 1) returns int language sql as 'select a + b';
create function hostile_rows() returns setof hostile language sql stable as 'table hostile';
"""
PATHS = ["/hostile", "/hostile", "/hostile_kin", "/rpc/hostile_add", "/rpc/hostile_rows"]


@pytest.fixture(scope="module")
def tables(local_supabase: LocalSupabase) -> None:
    """Tables that everybody may do everything with, so that nothing hides behind a refusal."""
    with psycopg.connect(local_supabase.db_url) as connection:
        connection.execute(SCHEMA.encode())


@pytest.fixture
async def api(
    local_supabase: LocalSupabase, owner: Owner, tables: None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the Data API, signed in as a fresh user."""
    headers = {"Authorization": f"Bearer {owner.token}"}
    async with httpx.AsyncClient(base_url=local_supabase.url, headers=headers) as client:
        yield client


async def test_hostile_requests_never_become_sql(
    api: httpx.AsyncClient, local_supabase: LocalSupabase
) -> None:
    """No answer is a syntax error, a failure of the server or somebody else's; all is there."""
    dice = random.Random(20)

    def words() -> str:
        return "".join(dice.choices(PIECES, k=dice.randint(0, 6)))

    answered = 0
    for _ in range(600):
        if dice.random() < 0.6:
            key, value = dice.choice(FITTING)
            found = [(key.replace("{}", words()), value.replace("{}", words()))]
        else:
            found = [(dice.choice([*KEYS, words()]), words()) for _ in range(3)]
        pairs = "&".join("=".join(quote(part, "") for part in pair) for pair in found)
        path = dice.choice(PATHS) if dice.random() < 0.9 else "/" + quote(words() or "x", "")
        method = dice.choice(["GET", "GET", "HEAD", "POST", "PATCH", "PUT", "DELETE"])
        headers = [dice.choice(HEADERS)] if dice.random() < 0.5 else []
        body = None if method in ("GET", "HEAD") else dice.choice(BODIES).encode()
        url = f"/rest/v1{path}?{pairs}"
        answer = await api.request(method, url, headers=headers, content=body)
        assert answer.status_code < 500, (method, url, headers, body, answer.text)
        assert '"42601"' not in answer.text, (method, url, headers, body, answer.text)
        answered += answer.status_code < 300
    assert answered > 60  # else the pieces only ever met the parser
    async with await psycopg.AsyncConnection.connect(local_supabase.db_url) as connection:
        await connection.execute("table hostile")


@pytest.mark.parametrize(
    "role", ["supabase_admin", "postgres", "authenticator", "pg_read_all_data", "none", "a; b", "é"]
)
async def test_a_role_claim_opens_nothing_else(
    api: httpx.AsyncClient, local_supabase: LocalSupabase, role: str
) -> None:
    """Only the three roles of a project can be had, even with the project's own signature."""
    token = local_supabase.token(sub=uuid.uuid4(), role=role)
    headers = {"Authorization": f"Bearer {token}"}
    answer = await api.get("/rest/v1/hostile", headers=headers)
    assert answer.status_code in (401, 403), answer.text
