"""The Data API answers as PostgREST does: statuses, headers, bodies, and row level security."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest

from conv_realtime.local import LocalSupabase
from conv_realtime.local.rest import body as rest_body
from conv_realtime.local.rest.clauses import Statement
from conv_realtime.local.rest.database import Database
from tests.conftest import Owner
from tests.local.rest_tables import SCHEMA

MERGE = "resolution=merge-duplicates"
SHOWN = "return=representation"
ONE = "application/vnd.pgrst.object+json"


@pytest.fixture(scope="module")
def tables(local_supabase: LocalSupabase) -> None:
    """The test tables, known to the Data API without a word to it."""
    with psycopg.connect(local_supabase.db_url) as connection:
        connection.execute(SCHEMA.encode())


@pytest.fixture
async def api(
    local_supabase: LocalSupabase, owner: Owner, tables: None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the Data API, signed in as a fresh user."""
    headers = {"apikey": local_supabase.publishable_key, "Authorization": f"Bearer {owner.token}"}
    base = f"{local_supabase.url}/rest/v1"
    async with httpx.AsyncClient(base_url=base, headers=headers) as client:
        yield client


async def noted(api: httpx.AsyncClient, count: int = 3) -> list[dict[str, Any]]:
    """Inserts notes with seq 1 to `count`."""
    rows = [{"seq": n, "text": f"note {n}", "content": {"n": n}} for n in range(1, count + 1)]
    response = await api.post("/api_notes", json=rows, headers={"Prefer": SHOWN})
    assert response.status_code == 201, response.text
    made: list[dict[str, Any]] = response.json()
    return made


def refusal(response: httpx.Response) -> tuple[int, str]:
    """Gives status and code of a refusal, whose shape is checked."""
    body = response.json()
    assert list(body) == ["code", "details", "hint", "message"]
    assert response.headers["proxy-status"] == f"PostgREST; error={body['code']}"
    return response.status_code, body["code"]


async def test_reads_only_own_rows(api: httpx.AsyncClient, local_supabase: LocalSupabase) -> None:
    """Another user sees nothing, and whoever has not signed in is refused."""
    await noted(api)
    assert len((await api.get("/api_notes")).json()) == 3
    stranger = {"Authorization": f"Bearer {local_supabase.token(sub=uuid.uuid4())}"}
    assert (await api.get("/api_notes", headers=stranger)).json() == []
    nobody = {"Authorization": f"Bearer {local_supabase.publishable_key}"}
    assert refusal(await api.get("/api_notes", headers=nobody)) == (401, "42501")


@pytest.mark.parametrize(
    ("query", "seqs"),
    [
        ("seq=eq.2", [2]),
        ("seq=neq.2", [1, 3]),
        ("seq=gt.1&seq=lte.3", [2, 3]),
        ("seq=in.(1,3,9)", [1, 3]),
        ("seq=not.in.(1,3)", [2]),
        ("seq=in.()", []),
        ("text=like.note*", [1, 2, 3]),
        ("text=ilike.*E%202", [2]),
        ("text=is.null", []),
        ("text=not.is.null", [1, 2, 3]),
        ("or=(seq.eq.1,seq.eq.3)", [1, 3]),
        ("and=(seq.gte.2,not.or(seq.eq.3,text.is.null))", [2]),
        ('or=(text.eq."note 1",text.in.("note 2","a,b"))', [1, 2]),
        ("content->>n=eq.2", [2]),
        ('content=cs.{"n":3}', [3]),
        ("text=match.^note%20[12]$", [1, 2]),
        ("text=isdistinct.note%201", [2, 3]),
        ("order=seq.desc&limit=2", [3, 2]),
        ("order=content->n.asc&offset=1", [2, 3]),
        ("text=eq.' or true--", []),
        ("seq=eq(any).{1,3}", [1, 3]),
        ("text=like(all).{note*,*2}", [2]),
        ("text=ilike(any).{NOTE*,x}", [1, 2, 3]),
        ("text=fts.note%26!3", [1, 2]),
        ("text=wfts(english).notes%20or%20x", [1, 2, 3]),
        ("text=not.plfts(simple).notes", [1, 2, 3]),
        ("limit=x&offset=y", [1, 2, 3]),
    ],
)
async def test_filters(api: httpx.AsyncClient, query: str, seqs: list[int]) -> None:
    """Each operator selects what its SQL would, with values as values."""
    await noted(api)
    response = await api.get(f"/api_notes?select=seq&{query}")
    found = [row["seq"] for row in response.json()]
    assert (found if "order" in query else sorted(found)) == seqs


async def test_select_renames_casts_and_digs(api: httpx.AsyncClient) -> None:
    """Columns can be renamed and cast, JSON can be entered."""
    await noted(api, 1)
    response = await api.get("/api_notes?select=n:seq,seq::text,content->n,deep:content->>n")
    assert response.json() == [{"n": 1, "seq": "1", "deep": "1"} | {"n": 1}]


async def test_pages_and_counts(api: httpx.AsyncClient) -> None:
    """A part of the rows is 206 with the total, a page past the end 416."""
    await noted(api, 5)
    exact = {"Prefer": "count=exact"}
    part = await api.get("/api_notes?select=seq&order=seq&limit=2&offset=1", headers=exact)
    assert (part.status_code, part.headers["content-range"]) == (206, "1-2/5")
    assert part.headers["preference-applied"] == "count=exact"
    assert part.headers["content-location"] == "/api_notes?limit=2&offset=1&order=seq&select=seq"
    ranged = await api.get("/api_notes?order=seq", headers={"Range": "3-9"})
    assert (ranged.status_code, ranged.headers["content-range"]) == (200, "3-4/*")
    past = await api.get("/api_notes?offset=9", headers=exact)
    assert (past.status_code, past.json()["code"]) == (416, "PGRST103")
    assert past.headers["content-range"] == "*/5"
    head = await api.head("/api_notes", headers=exact)
    assert (head.content, head.headers["content-range"]) == (b"", "0-4/5")


async def test_never_more_than_a_thousand_rows(api: httpx.AsyncClient) -> None:
    """Reading a table or a set stops at 1,000 rows, as on the hosted platform."""
    response = await api.post("/rpc/api_series", json={"n": 1500})
    assert len(response.json()) == 1000


async def test_one_row_as_an_object(api: httpx.AsyncClient) -> None:
    """`single()` wants exactly one; a write that gives two is undone."""
    await noted(api, 2)
    one = await api.get("/api_notes?seq=eq.1&select=seq", headers={"Accept": ONE})
    assert (one.json(), one.headers["content-type"]) == ({"seq": 1}, f"{ONE}; charset=utf-8")
    assert refusal(await api.get("/api_notes", headers={"Accept": ONE})) == (406, "PGRST116")
    both = await api.patch(
        "/api_notes?seq=gt.0", json={"text": "x"}, headers={"Accept": ONE, "Prefer": SHOWN}
    )
    assert refusal(both) == (406, "PGRST116")
    assert (await api.get("/api_notes?text=eq.x")).json() == []


async def test_upsert_tells_new_from_known(api: httpx.AsyncClient) -> None:
    """201 if a row was inserted, else 200; the body is empty unless it is asked for."""
    row = {"id": str(uuid.uuid4()), "seq": 1, "text": "a"}
    first = await api.post("/api_notes?on_conflict=id", json=[row], headers={"Prefer": MERGE})
    assert (first.status_code, first.content) == (201, b"")
    again = await api.post("/api_notes", json=row | {"text": "b"}, headers={"Prefer": MERGE})
    assert again.status_code == 200
    ignored = await api.post(
        "/api_notes",
        json=row | {"text": "c"},
        headers={"Prefer": f"resolution=ignore-duplicates,{SHOWN}"},
    )
    assert (ignored.status_code, ignored.json()) == (201, [])
    assert (await api.get("/api_notes?select=text")).json() == [{"text": "b"}]


async def test_upsert_that_a_trigger_silences_is_no_insert(
    api: httpx.AsyncClient, local_supabase: LocalSupabase
) -> None:
    """A row that stays as it was gives 200 and no row back."""
    secret = {"Authorization": f"Bearer {local_supabase.secret_key}", "Prefer": f"{MERGE},{SHOWN}"}
    row = [{"id": 7, "value": "same"}]
    await api.post("/api_quiet", json=row, headers=secret)
    again = await api.post("/api_quiet", json=row, headers=secret)
    assert (again.status_code, again.json()) == (200, [])


async def test_columns_choose_and_missing_ones_default(api: httpx.AsyncClient) -> None:
    """`columns` leaves other keys out; with `missing=default` absent keys get defaults."""
    rows = [{"seq": 1, "text": "a", "junk": 1}, {"seq": 2}]
    query = "columns=seq,text,made_at&select=seq,text"
    plain = await api.post(f"/api_notes?{query}", json=rows)
    assert refusal(plain) == (400, "23502")
    filled = await api.post(
        f"/api_notes?{query}", json=rows, headers={"Prefer": f"missing=default,{SHOWN}"}
    )
    assert filled.json() == [{"seq": 1, "text": "a"}, {"seq": 2, "text": None}]


async def test_one_bad_row_undoes_the_batch(api: httpx.AsyncClient) -> None:
    """A request is one transaction."""
    rows = [{"seq": 1, "text": "a"}, {"seq": None, "text": "b"}]
    assert refusal(await api.post("/api_notes", json=rows)) == (400, "23502")
    assert (await api.get("/api_notes")).json() == []


async def test_a_thousand_rows_in_one_request(api: httpx.AsyncClient) -> None:
    """A large batch comes back in its order."""
    rows = [{"seq": n, "text": "x" * 1000} for n in range(1000, 0, -1)]
    made = await api.post("/api_notes?select=seq", json=rows, headers={"Prefer": SHOWN})
    assert [row["seq"] for row in made.json()] == list(range(1000, 0, -1))


async def test_insert_without_the_right_to_read(api: httpx.AsyncClient) -> None:
    """A user who may only insert does so with `return=minimal`, and not otherwise."""
    row = {"key": str(uuid.uuid4())}
    made = await api.post("/api_events", json=row, headers={"Prefer": "return=minimal"})
    assert made.status_code == 201
    shown = await api.post("/api_events", json={"key": "y"}, headers={"Prefer": SHOWN})
    assert refusal(shown) == (403, "42501")


async def test_headers_only_tells_where(api: httpx.AsyncClient) -> None:
    """`Location` names the new row."""
    row = {"id": str(uuid.uuid4()), "seq": 1}
    made = await api.post("/api_notes", json=row, headers={"Prefer": "return=headers-only"})
    assert made.headers["location"] == f"/api_notes?id=eq.{row['id']}"


async def test_put_makes_or_replaces_one_row(api: httpx.AsyncClient) -> None:
    """201 and 200, or 204; a body that is another row is refused and changes nothing."""
    row = {"id": str(uuid.uuid4()), "seq": 1, "text": "a"}
    place, shown = f"/api_notes?id=eq.{row['id']}", {"Prefer": SHOWN}
    first = await api.put(place, json=row, headers=shown)
    assert (first.status_code, first.json()[0]["text"]) == (201, "a")
    again = await api.put(place, json=row | {"text": "b"}, headers=shown)
    assert (again.status_code, again.json()[0]["text"]) == (200, "b")
    quiet = await api.put(place, json=row | {"text": "c"})
    assert (quiet.status_code, quiet.content) == (204, b"")
    other = await api.put(place, json=row | {"id": str(uuid.uuid4()), "seq": 2})
    assert refusal(other) == (400, "PGRST115")
    assert [one["text"] for one in (await api.get("/api_notes")).json()] == ["c"]


async def test_csv_comes_and_goes(api: httpx.AsyncClient) -> None:
    """What one writes as CSV the other reads, quotes, commas and nulls included."""
    kind = {"Content-Type": "text/csv"}
    rows = 'seq,text\n1,"a, ""b"""\n2,NULL\n'
    made = await api.post("/api_notes", content=rows, headers=kind)
    assert made.status_code == 201, made.text
    asked = {"Accept": "text/csv"}
    shown = await api.get("/api_notes?select=seq,text&order=seq", headers=asked)
    assert shown.headers["content-type"] == "text/csv; charset=utf-8"
    assert shown.text == 'seq,text\n1,"a, ""b"""\n2,'
    assert (await api.get("/api_notes?seq=eq.9", headers=asked)).text == "\n"
    ragged = await api.post("/api_notes", content="seq,text\n1\n", headers=kind)
    assert refusal(ragged) == (400, "PGRST102")
    form = await api.post("/api_notes", data={"seq": "3", "text": "f"})
    assert form.status_code == 201


async def test_nulls_can_be_left_out(api: httpx.AsyncClient) -> None:
    """`nulls=stripped` answers only keys that have a value."""
    await api.post("/api_notes", json={"seq": 1})
    asked = {"Accept": f"{ONE};nulls=stripped"}
    shown = await api.get("/api_notes?select=seq,text", headers=asked)
    assert shown.json() == {"seq": 1}
    assert shown.headers["content-type"] == f"{ONE};nulls=stripped; charset=utf-8"


async def test_update_and_delete(api: httpx.AsyncClient) -> None:
    """Changes touch the rows that match, and give them back on request."""
    await noted(api)
    changed = await api.patch(
        "/api_notes?seq=gte.2&select=seq", json={"text": "new"}, headers={"Prefer": SHOWN}
    )
    assert sorted(row["seq"] for row in changed.json()) == [2, 3]
    assert changed.headers["content-range"] == "0-1/*"
    nothing = await api.patch("/api_notes?seq=eq.2", json={})
    assert nothing.status_code == 204
    gone = await api.delete("/api_notes?text=eq.new")
    assert (gone.status_code, gone.content) == (204, b"")
    assert [row["seq"] for row in (await api.get("/api_notes")).json()] == [1]


async def test_strict_limit_on_changes(api: httpx.AsyncClient) -> None:
    """A change that touches more rows than allowed is undone."""
    await noted(api)
    wish = {"Prefer": "handling=strict,max-affected=2"}
    assert refusal(await api.delete("/api_notes?seq=gt.0", headers=wish)) == (400, "PGRST124")
    assert len((await api.get("/api_notes")).json()) == 3


async def test_functions(api: httpx.AsyncClient) -> None:
    """Scalars, sets, tables and void come as PostgREST gives them."""
    assert (await api.post("/rpc/api_add", json={"a": 1, "b": 2})).json() == 3
    assert (await api.get("/rpc/api_add?a=5")).json() == 6
    assert (await api.get("/rpc/api_series?n=3")).json() == [1, 2, 3]
    pairs = await api.post("/rpc/api_pairs?a=gt.1&select=b&order=a.desc", json={"n": 3})
    assert pairs.json() == [{"b": "x3"}, {"b": "x2"}]
    one = await api.post("/rpc/api_pairs", json={"n": 1}, headers={"Accept": ONE})
    assert one.json() == {"a": 1, "b": "x1"}
    two = await api.post("/rpc/api_pairs", json={"n": 2}, headers={"Accept": ONE})
    assert refusal(two) == (406, "PGRST116")
    nothing = await api.post("/rpc/api_nothing", json={})
    assert (nothing.status_code, nothing.content) == (204, b"")


async def test_functions_are_found_by_argument_names(api: httpx.AsyncClient) -> None:
    """Wrong names are a 404 that says what was looked for."""
    response = await api.post("/rpc/api_add", json={"x": 1})
    assert refusal(response) == (404, "PGRST202")
    assert response.json()["hint"] == "Perhaps you meant to call the function public.api_add(a, b)"


async def test_get_cannot_write(api: httpx.AsyncClient) -> None:
    """A function called by GET runs in a read-only transaction."""
    assert refusal(await api.get("/rpc/api_write")) == (405, "25006")


async def test_the_database_knows_the_request(
    api: httpx.AsyncClient, owner: Owner, local_supabase: LocalSupabase
) -> None:
    """Role, user, limits and headers of the request are there for policies and triggers."""
    headers = {"x-conv-realtime-history": "1"}
    told = (await api.post("/rpc/api_whoami", json={}, headers=headers)).json()
    assert told == {
        "role": "authenticated",
        "uid": owner.id,
        "timeout": "8s",
        "method": "POST",
        "path": "/rpc/api_whoami",
        "history": "1",
    }
    anonymous = {"Authorization": f"Bearer {local_supabase.publishable_key}"}
    told = (await api.post("/rpc/api_whoami", json={}, headers=anonymous)).json()
    assert (told["role"], told["uid"], told["timeout"]) == ("anon", None, "3s")


async def test_nothing_of_a_request_is_left_for_the_next(api: httpx.AsyncClient) -> None:
    """A connection that served one user tells the next one nothing of them."""
    await asyncio.gather(*(api.post("/rpc/api_whoami", json={}) for _ in range(20)))
    told = await asyncio.gather(
        *(api.post("/rpc/api_whoami", json={}, headers={"Authorization": ""}) for _ in range(20))
    )
    assert {(one.json()["role"], one.json()["uid"]) for one in told} == {("anon", None)}


async def test_what_a_function_sets_for_the_session_ends_with_the_request(
    api: httpx.AsyncClient, owner: Owner
) -> None:
    """Connections are shared: who sets a claim for good has set it for nobody else."""
    who = str(uuid.uuid4())
    for _ in range(5):
        assert (await api.post("/rpc/api_become", json={"who": who})).json() == who
    told = await asyncio.gather(*(api.post("/rpc/api_whoami", json={}) for _ in range(20)))
    assert {one.json()["uid"] for one in told} == {owner.id}


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/api_note", None, (404, "PGRST205")),
        ("GET", "/api_notes?select=nope", None, (400, "42703")),
        ("GET", "/api_notes?seq=eq.x", None, (400, "22P02")),
        ("GET", "/api_notes?seq=zz.1", None, (400, "PGRST100")),
        ("GET", "/api_notes?limit=-1", None, (416, "PGRST103")),
        ("GET", "/api_notes?text=eq.a%00b", None, (400, "22021")),
        ("GET", "/api_notes?text=in.(a%00b)", None, (400, "22021")),
        ("GET", "/api_notes?select=content->a%00b", None, (400, "22021")),
        ("GET", "/api_notes?a%00b=eq.1", None, (400, "22021")),
        ("GET", "/api_notes?text=fts(a%00b).c", None, (400, "PGRST100")),
        ("POST", "/api_notes", '{"nope": 1}', (400, "PGRST204")),
        ("POST", "/api_notes", "[{", (400, "PGRST102")),
        ("POST", "/api_notes", '[{"seq": 1}, {"text": "a"}]', (400, "PGRST102")),
        ("POST", "/api_notes", '{"seq": 1, "text": "a\\u0000b"}', (400, "22P05")),
        ("POST", "/api_notes?on_conflict=text", '{"seq": 1}', (400, "42P10")),
        ("POST", "/rpc/api_raise", '{"code": "PT418"}', (418, "PT418")),
        ("POST", "/rpc/api_raise", '{"code": "P0001"}', (400, "P0001")),
        ("POST", "/rpc/api_raise", '{"code": "40001"}', (500, "40001")),
        ("POST", "/rpc/api_raise", '{"code": "23505"}', (409, "23505")),
        ("GET", "/api_notes?select=*,api_events(*)", None, (400, "PGRST200")),
        ("GET", "/api_notes?api_events.id=eq.1", None, (400, "PGRST108")),
        ("GET", "/api_notes?select=seq.sum()", None, (400, "PGRST123")),
        ("GET", "/api_notes?select=count()", None, (400, "PGRST123")),
        ("GET", "/api_notes?seq=cs(any).1", None, (400, "PGRST100")),
        ("DELETE", "/api_notes?limit=1", None, (400, "PGRST127")),
        ("PUT", "/api_notes?seq=eq.1", '{"seq": 1}', (405, "PGRST105")),
        ("PUT", "/api_notes?id=eq.1&limit=1", "{}", (400, "PGRST114")),
    ],
)
async def test_refusals(
    api: httpx.AsyncClient, method: str, path: str, body: str | None, expected: tuple[int, str]
) -> None:
    """What is wrong or not supported is refused with PostgREST's status, code and shape."""
    headers = {"Prefer": MERGE} if "on_conflict" in path else {}
    response = await api.request(method, path, content=body, headers=headers)
    assert refusal(response) == expected


async def test_names_cannot_break_out(api: httpx.AsyncClient) -> None:
    """A hostile column name is a column that does not exist."""
    await noted(api, 1)
    for name in ('seq"; drop table api_notes; --', "seq) or (true", "seq'"):
        response = await api.get("/api_notes", params={"select": f'"{name}"'})
        assert response.status_code == 400
        assert (await api.get("/api_notes", params={name: "eq.1"})).status_code == 400
    assert len((await api.get("/api_notes")).json()) == 1


async def test_a_path_into_json_cannot_end_the_statement(api: httpx.AsyncClient) -> None:
    """A path that reads as a comment, and a line break behind it, do not let SQL in."""
    smuggled = "\n1) as a from public.api_notes) select null, 1, current_user, null, null; --"
    select = f'content->--1,"{smuggled}":id'
    await noted(api, 1)
    for response in (
        await api.get("/api_notes", params={"select": select}),
        await api.get("/api_notes", params={"select": "id", "order": f'content->--1,"{smuggled}"'}),
        await api.post("/rpc/api_add", params={"select": select}, json={"a": 1, "b": 2}),
    ):
        assert "authenticated" not in response.text
    shown = await api.get("/api_notes", params={"select": "a:content->--1,b:content->n"})
    assert shown.json() == [{"a": None, "b": 1}]


async def test_an_endless_body_is_refused(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is not filled by one request, whatever length it states."""
    monkeypatch.setattr(rest_body, "MAX_BODY_BYTES", 10_000)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"[" * 1000

    answer = await api.post("/api_notes", content=endless())
    assert refusal(answer) == (413, "PGRST102")
    assert (await api.post("/rpc/api_add", json={"a": 1})).json() == 2


async def test_a_request_is_one_statement(local_supabase: LocalSupabase) -> None:
    """Should SQL ever slip in, PostgreSQL still refuses a second statement behind the first."""
    two = Statement("select null, 1, '', null, null; create table api_smuggled ()")
    dsn = local_supabase.postgres.dsn(user="authenticator")
    with pytest.raises(psycopg.errors.SyntaxError, match="multiple commands"):
        async with Database(dsn) as database:
            await database.run([("role", "anon")], two, read_only=False, check=lambda result: None)


async def test_tokens_are_checked(api: httpx.AsyncClient, local_supabase: LocalSupabase) -> None:
    """A bad token is a 401 that says why; the apikey stands in for a missing one."""
    expired = local_supabase.token(expires_in=-60)
    response = await api.get("/api_notes", headers={"Authorization": f"Bearer {expired}"})
    assert refusal(response) == (401, "PGRST303")
    assert 'error_description="JWT expired"' in response.headers["www-authenticate"]
    response = await api.get("/api_notes", headers={"Authorization": "Bearer x.y.z"})
    assert refusal(response) == (401, "PGRST301")
    keyed = {"Authorization": "", "apikey": local_supabase.secret_key}
    assert (await api.get("/api_notes", headers=keyed)).status_code == 200
    superuser = {"Authorization": f"Bearer {local_supabase.token(role='postgres')}"}
    assert refusal(await api.get("/api_notes", headers=superuser)) == (403, "42501")


async def test_slow_statements_are_cut(
    api: httpx.AsyncClient, local_supabase: LocalSupabase
) -> None:
    """Who has not signed in gets three seconds of the database."""
    anonymous = {"Authorization": f"Bearer {local_supabase.publishable_key}"}
    response = await api.post("/rpc/api_sleep", json={"seconds": 20}, headers=anonymous, timeout=15)
    assert refusal(response) == (500, "57014")


async def test_new_tables_and_columns_are_served_at_once(
    api: httpx.AsyncClient, local_supabase: LocalSupabase
) -> None:
    """What `db_url` makes is there for the next request, without a restart."""
    secret = {"Authorization": f"Bearer {local_supabase.secret_key}"}
    name = f"api_{uuid.uuid4().hex}"
    async with await psycopg.AsyncConnection.connect(
        local_supabase.db_url, autocommit=True
    ) as connection:
        await connection.execute(f"create table {name} (id int primary key)".encode())
        assert (await api.post(f"/{name}", json={"id": 1}, headers=secret)).status_code == 201
        await connection.execute(f"alter table {name} add column more text".encode())
        made = await api.post(f"/{name}", json={"id": 2, "more": "x"}, headers=secret)
        assert made.status_code == 201, made.text
        await connection.execute(f"drop table {name}".encode())
        assert (await api.get(f"/{name}", headers=secret)).status_code == 404
