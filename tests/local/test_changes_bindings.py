"""What a client may ask for, and the words in which a real server refuses the rest."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conv_realtime.local import LocalSupabase
from conv_realtime.local.keys import mint
from conv_realtime.local.realtime.changes import elixir
from conv_realtime.local.realtime.changes.bindings import BindingRefused, read_binding
from conv_realtime.local.realtime.changes.filters import Filter, FilterRefused, parse_filters
from conv_realtime.local.realtime.frames import Version
from tests.local.changes import PLAIN, Table, subscribe, system, table
from tests.local.realtime_client import socket

CANNOT = "Unable to subscribe to changes with given parameters. "
NOT_ENABLED = f"{CANNOT}Please check Realtime is enabled for the given connect parameters: "
EXCEPTION = f"{CANNOT}An exception happened so please check your connect parameters: "


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"filter": "nope=eq.1"},
            EXCEPTION + '[event: *, schema: public, table: {t}, filters: [{{"nope", "eq", "1", '
            "false}}], select: nil]. Exception: ERROR P0001 (raise_exception) "
            "invalid column for filter nope",
        ),
        (
            {"filter": "id=eq.abc"},
            EXCEPTION + '[event: *, schema: public, table: {t}, filters: [{{"id", "eq", "abc", '
            "false}}], select: nil]. Exception: ERROR 22P02 (invalid_text_representation) "
            'invalid input syntax for type bigint: "abc"',
        ),
        ({"filter": "garbage"}, 'Error parsing `filter` params: ["garbage"]'),
        ({"filter": "title=foo.a.b"}, 'Error parsing `filter` params: ["foo", "a.b"]'),
        (
            {"filter": "id=in.1,2"},
            "Error parsing `filter` params: `in` filter value must be wrapped by parentheses",
        ),
        (
            {"filter": "id=in.(" + ",".join(map(str, range(101))) + ")"},
            "too many values for `in` filter. Maximum 100",
        ),
        ({"filter": "title=match.("}, "invalid regular expression for match filter: "),
        (
            {"filter": "id=like.1%"},
            "operator like requires a text-compatible column type, got bigint",
        ),
        ({"filter": "title=is.true"}, "is true filter requires a boolean column, got text"),
        ({"select": ["id", "nope"]}, "invalid column for select nope"),
        ({"select": "id"}, "Error parsing `select` params: expected a list of column name strings"),
        ({"table": "*", "select": ["id"]}, "Column selection is not supported for wildcard"),
    ],
)
async def test_a_bad_binding_is_refused_in_the_words_of_a_real_server(
    local_supabase: LocalSupabase, todos: Table, more: dict[str, Any], words: str
) -> None:
    """After an ok reply, as a system error that leaves the channel open."""
    async with socket(local_supabase) as client:
        _, reply = await client.join("bad", postgres_changes=[todos.binding() | more])
        assert reply["status"] == "ok"
        told = await system(client, "bad")
        assert (told["status"], told["channel"]) == ("error", "bad")
        assert words.format(t=todos.name) in told["message"]
        await client.settle()
        assert all(frame.event != "phx_close" for frame in client.received)


async def test_a_channel_has_so_many_bindings_and_no_more(local_supabase: LocalSupabase) -> None:
    """Each is checked in the database."""
    many = [{"event": "*", "schema": "public", "table": f"t{n}"} for n in range(1001)]
    async with socket(local_supabase) as client:
        await client.join("many", postgres_changes=many)
        told = await system(client, "many")
    assert (told["status"], told["message"]) == ("error", "Too many bindings, at most 1000")


@pytest.mark.parametrize("version", list(Version))
async def test_a_table_that_is_not_published_spoils_the_channel(
    local_supabase: LocalSupabase, todos: Table, version: Version
) -> None:
    """One bad binding is enough; the last of several is named."""
    async with (
        table(local_supabase.db_url, PLAIN, published=False) as hidden,
        socket(local_supabase, version) as client,
    ):
        _, reply = await client.join("bad", postgres_changes=[todos.binding(), hidden.binding()])
        assert reply["status"] == "ok"
        told = await system(client, "bad")
        assert told == {
            "message": f"{NOT_ENABLED}[event: *, schema: public, table: {hidden.name}, "
            "filters: [], select: nil]",
            "status": "error",
            "extension": "postgres_changes",
            "channel": "bad",
        }


async def test_a_role_that_is_not_there_is_named(
    local_supabase: LocalSupabase, todos: Table
) -> None:
    """A public channel admits any token; its bindings do not."""
    nobody = mint(local_supabase.jwt_secret, "nobody_here", 60)
    async with socket(local_supabase) as client:
        await client.join("bad", token=nobody, postgres_changes=[todos.binding()])
        told = await system(client, "bad")
    assert told["message"].endswith(
        'ERROR 42704 (undefined_object) role "nobody_here" does not exist'
    )


@pytest.mark.parametrize(
    "binding",
    [
        {"event": "FOO"},
        {"event": None},
        {"event": "insert"},
        {"filter": " "},
        {"filter": "title=in.(a,b)"},
        {"filter": "title=not.is.null,id=gte.0,is_public=is.true"},
        {"select": ["title", 7]},
        {"select": []},
    ],
)
async def test_what_real_servers_accept_is_accepted(
    local_supabase: LocalSupabase, todos: Table, binding: dict[str, Any]
) -> None:
    """An unknown event stands for all."""
    async with socket(local_supabase) as client:
        await subscribe(client, [todos.binding() | binding])


@pytest.mark.parametrize(
    "binding", [{"schema": "public"}, {"event": "*", "schema": "*"}, {"schema": "pub%"}]
)
async def test_wildcards_stand_for_what_is_published(
    local_supabase: LocalSupabase, todos: Table, binding: dict[str, Any]
) -> None:
    """A schema alone, all schemas, and the LIKE patterns that real servers take."""
    async with socket(local_supabase) as client:
        await subscribe(client, [binding])


def test_a_binding_without_schema_means_public() -> None:
    """As on a real server, and only where there is no filter."""
    assert read_binding({"id": 1, "table": "a"}).schema == "public"
    with pytest.raises(BindingRefused, match="No subscription params provided"):
        read_binding({"id": 1, "table": "a", "filter": "id=eq.1"})


NAMES = st.text("ab_%.", max_size=7)


@given(NAMES, NAMES)
def test_a_table_is_matched_as_like_matches(pattern: str, name: str) -> None:
    """As PostgreSQL says: `%` is any text, `_` any character, and nothing else is special."""
    regex = "".join({"%": ".*", "_": "."}.get(char) or re.escape(char) for char in pattern)
    binding = read_binding({"id": 1, "table": pattern})
    assert binding.wants("public", name) == bool(re.fullmatch(regex, name))


def test_no_wish_takes_long_to_be_understood() -> None:
    """Clients choose patterns and filters, and everybody waits while they are read."""
    for part in ("%", "%_", "%s"):
        assert not read_binding({"id": 1, "table": part * 300 + "x"}).wants("public", "s" * 63)
    with pytest.raises(BindingRefused, match="may have 1000 characters at most"):
        read_binding({"id": 1, "table": "%" * 1001})
    long = "x" * 2_000_000
    asked = {"id": 1, "schema": "public", "table": "a", "filter": f"a=eq.{long}"}
    assert read_binding(asked).filters == (Filter("a", "eq", long, negated=False),)


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        ("a=eq.b", [Filter("a", "eq", "b", negated=False)]),
        ("a=eq.b=c.d", [Filter("a", "eq", "b=c.d", negated=False)]),
        ("a=not.in.(1,2)", [Filter("a", "in", "{1,2}", negated=True)]),
        (
            "a=gt.0, b=lt.9",
            [Filter("a", "gt", "0", negated=False), Filter("b", "lt", "9", negated=False)],
        ),
        (
            'a=eq."x,y",b=eq.z',
            [Filter("a", "eq", "x,y", negated=False), Filter("b", "eq", "z", negated=False)],
        ),
        (r'a=eq."say \"hi\""', [Filter("a", "eq", 'say "hi"', negated=False)]),
        ('a=eq."x"y', [Filter("a", "eq", '"x"y', negated=False)]),
        ('a=in.("x,y",z)', [Filter("a", "in", '{"x,y",z}', negated=False)]),
        ("", []),
    ],
)
def test_filters_are_read_as_clients_write_them(text: str, filters: list[Filter]) -> None:
    """Quotes, negation, several conditions."""
    assert list(parse_filters(text)) == filters


@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    """Nothing else comes out, whatever a client sends."""
    try:
        assert all(isinstance(one, Filter) for one in parse_filters(text))
    except FilterRefused as refusal:
        assert str(refusal)


@pytest.mark.parametrize("text", ["a=eq.1,", ",a=eq.1", "a=eq.1,,b=eq.2"])
def test_an_extra_comma_is_refused(text: str) -> None:
    """It is a mistake, not a condition."""
    with pytest.raises(FilterRefused, match="empty segments"):
        parse_filters(text)


def test_values_are_shown_as_elixir_shows_them() -> None:
    """Messages quote what the client sent."""
    shown = elixir.value({"b": [1, None, True], "a": 'x"y'})
    assert shown == '%{"a" => "x\\"y", "b" => [1, nil, true]}'
    assert elixir.string("#{x}") == '"\\#{x}"'
