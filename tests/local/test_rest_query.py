"""Query strings are read or refused, and nothing of them becomes SQL that is not a quoted name."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conv_realtime.local.rest import sql as rest_sql
from conv_realtime.local.rest.catalog import Catalog, Column, Table
from conv_realtime.local.rest.errors import ApiError
from conv_realtime.local.rest.prefer import ARRAY, applied, parse_accept, parse_prefer, parse_range
from conv_realtime.local.rest.query import Condition, Junction, Order, parse_query
from conv_realtime.local.rest.relations import ForeignKey, related
from conv_realtime.local.rest.selection import Field, Related, Selected, parse_select
from conv_realtime.local.rest.text import split_top, unquote

TABLE = Table("t", {"a": Column("a", "integer", None)}, ("a",))
PARENT = Table("p", {"id": Column("id", "integer", None)}, ("id",))
CATALOG = Catalog(
    {"t": TABLE, "p": PARENT},
    relations=related([ForeignKey("t_a_fkey", "t", "p", (("a", "id"),), False)], {}),
)

keys = st.sampled_from(
    ["select", "order", "and", "or", "not.or", "a", "a->b", "on_conflict", "p.id", "p.order"]
)
grammar = st.text(alphabet='ab1.,:()"\\{}->*= ', max_size=30)
words = st.sampled_from(
    ["eq.", "not.", "in.(", "is.null", "or(", "and(", "->>", "::", ")", '"', "p(", "!inner", "..."]
)
texts = st.lists(st.one_of(grammar, words), max_size=6).map("".join)


@given(st.lists(st.tuples(keys, texts), max_size=4))
def test_any_query_string_is_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    """Nothing but an `ApiError` comes out of reading, and what was read becomes SQL."""
    try:
        query = parse_query(pairs)
        rest_sql.read(CATALOG, TABLE, query, ARRAY, counted=True, body=True)
    except ApiError as error:
        assert error.status in (300, 400, 416)


hostile = st.text(alphabet="a1\u0663-\n;/*'\"", min_size=1, max_size=12)


@given(hostile, hostile, hostile)
def test_what_a_client_says_is_quoted_or_a_parameter(path: str, alias: str, value: str) -> None:
    """Outside of quoted names a client puts no comment, no line and no statement into SQL."""
    pairs = [("select", f"a->{path},{alias}:a"), ("order", f"a->>{path}"), (f"a->{path}", value)]
    for pair in pairs:
        try:
            query = parse_query([pair])
        except ApiError:
            continue
        made = rest_sql.read(CATALOG, TABLE, query, ARRAY, counted=True, body=True)
        bare = re.sub(r'"(?:[^"]|"")*"', "", made.sql).replace("count(*)", "").replace(".*", "")
        assert not re.search(r"--|/\*|[;\n\u0663]", bare), made.sql


@given(st.text(alphabet="xyz'\"\\;-$", min_size=3, max_size=20))
def test_values_are_never_sql(value: str) -> None:
    """A value, however hostile, is a parameter."""
    query = parse_query([("a", f"eq.{value}"), ("select", "a")])
    made = rest_sql.read(CATALOG, TABLE, query, ARRAY, counted=False, body=True)
    assert made.parameters == [value]
    assert made.sql.endswith("as location from page")
    assert '"public"."t"."a" = $1' in made.sql


@given(st.text(alphabet="ab\"'; ", min_size=1, max_size=12))
def test_names_stay_between_quotes(name: str) -> None:
    """A name keeps its quotes doubled, so that it ends where it should."""
    query = parse_query([("order", "a")]).replaced(limit=None, offset=0)
    table = Table("t", {name: Column(name, "text", None)}, ())
    made = rest_sql.insert(CATALOG, table, [name], "[]", query)
    assert '("' + name.replace('"', '""') + '") select' in made.sql


@given(st.lists(st.text(alphabet='a",()\\{} ', max_size=6), min_size=1, max_size=5))
def test_quoted_lists_come_back_whole(values: list[str]) -> None:
    """What a client quotes for `in` arrives as it was."""
    escaped = [value.replace("\\", "\\\\").replace('"', '\\"') for value in values]
    listed = ",".join(f'"{value}"' for value in escaped)
    assert [unquote(part) for part in split_top(listed)] == values


def test_filters_nest() -> None:
    """Junctions hold conditions and junctions."""
    (found,) = parse_query([("or", "(a.eq.1,not.and(b.gt.2,c.in.(x,y)))")]).filters
    inner = Junction(
        "and",
        (Condition(Field("b"), "gt", "2"), Condition(Field("c"), "in", ("x", "y"))),
        negated=True,
    )
    assert found == Junction("or", (Condition(Field("a"), "eq", "1"), inner))


def test_select_reads_alias_path_and_cast() -> None:
    """The whole grammar of an item."""
    assert parse_select('n:a->b->>"c d"::text, *') == (
        Selected(Field("a", (("->", "b"), ("->>", "c d"))), "n", "text"),
        Selected(Field("*")),
    )


def test_order_reads_direction_and_nulls() -> None:
    """Nulls come where they are wanted."""
    assert parse_query([("order", "a.desc.nullslast,b->c.asc")]).order == (
        Order(Field("a"), True, "last"),
        Order(Field("b", (("->", "c"),))),
    )


def test_preferences_are_told_in_their_order() -> None:
    """The first of a repeated preference counts; unknown ones are ignored unless strict."""
    found = parse_prefer(["return=minimal, missing=default", "return=representation,bogus=1"])
    assert applied(found, "return", "missing") == "missing=default, return=minimal"
    with pytest.raises(ApiError, match="PGRST122"):
        parse_prefer(["handling=strict,bogus=1"])


@pytest.mark.parametrize(
    ("header", "window"),
    [(None, (0, None)), ("0-9", (0, 10)), ("5-", (5, None)), ("x", (0, None)), ("9-3", (9, 0))],
)
def test_ranges(header: str | None, window: tuple[int, int | None]) -> None:
    """First and last row, both included."""
    assert parse_range(header) == window


def test_accept_decides_between_array_object_and_csv() -> None:
    """The first type that can be given wins; none is an error."""
    assert parse_accept("application/vnd.pgrst.object+json; charset=utf-8").single
    assert parse_accept("application/vnd.pgrst.object+json;nulls=stripped").stripped
    assert parse_accept(None) == ARRAY
    assert parse_accept("text/html, */*") == ARRAY
    assert parse_accept("text/csv").csv
    with pytest.raises(ApiError, match="PGRST107"):
        parse_accept("text/xml")


def test_select_reads_related_tables() -> None:
    """Alias, hint, kind of join and the items inside, nested and spread."""
    assert parse_select('id, n:"p q"!k!inner(a,...r(b))') == (
        Selected(Field("id")),
        Related(
            "p q",
            "n",
            "k",
            inner=True,
            items=(Selected(Field("a")), Related("r", spread=True, items=(Selected(Field("b")),))),
        ),
    )


def test_parameters_belong_to_the_table_before_the_dot() -> None:
    """Filters, order and window of a related table are its own; an unknown one is an error."""
    pairs = [
        ("select", "a,p(id)"),
        ("p.id", "gt.1"),
        ("p.not.or", "(id.eq.2,id.eq.3)"),
        ("p.order", "id.desc"),
        ("p.limit", "2"),
    ]
    (child,) = parse_query(pairs).embeds
    assert child.query.filters == (
        Condition(Field("id"), "gt", "1"),
        Junction("or", tuple(Condition(Field("id"), "eq", n) for n in "23"), negated=True),
    )
    assert (child.query.order, child.query.limit) == ((Order(Field("id"), True),), 2)
    with pytest.raises(ApiError, match="PGRST108"):
        parse_query([("select", "a,p(id)"), ("q.id", "eq.1")])


@pytest.mark.parametrize(
    "pair",
    [
        ("or", "(" + "and(" * 5000 + "a.eq.1" + ")" * 5001),
        ("select", "p(" * 5000 + ")" * 5000),
        ("select", ",".join(f"n{n}:p(id)" for n in range(101))),
    ],
)
def test_what_would_cost_the_stack_or_the_day_is_refused(pair: tuple[str, str]) -> None:
    """Nesting without end breaks parsers, and a hundred joins keep a planner busy for minutes."""
    with pytest.raises(ApiError, match="PGRST100"):
        parse_query([pair])


@pytest.mark.parametrize("header", ["0-" + "9" * 5000, "\xb2-\xb3", "9" * 5000 + "-"])
def test_absurd_numbers_are_no_range(header: str) -> None:
    """Digits without end, or of another kind, ask for nothing."""
    assert parse_range(header) == (0, None)
    assert parse_prefer([f"max-affected={header}"]).max_affected is None
    assert parse_query([("limit", header), ("offset", header)]).limit is None
