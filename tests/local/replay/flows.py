"""What happened between the frames of each captured flow, and what makes a flow special."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from conv_realtime.local.realtime.rules import Rules
from tests.local.replay.captures import Line
from tests.local.replay.compare import Gap
from tests.local.replay.project import ALICE, Server, token

Action = Callable[[Server], Awaitable[Gap | None]]


@dataclass(frozen=True)
class Step:
    """Something that is done once, before the first line in which a pattern is found."""

    before: str
    action: Action


@dataclass(frozen=True)
class Flow:
    """How to play a flow.

    Attributes:
        steps: what happens between the frames, in their order.
        rewrite: gives the frame of the client that is sent; changes what would be stale by now.
        rules: of a server for this flow alone; None plays it on the one behind the gateway.
        apart: whether it is about waiting and shares nothing with others, so that they go on.
    """

    steps: tuple[Step, ...] = ()
    rewrite: Callable[[Line], str | bytes] = lambda line: line.data
    rules: Rules | None = None
    apart: bool = False


def before(pattern: str, *actions: Action) -> Step:
    """Does some things before the first line in which a pattern is found."""

    async def all_of_them(server: Server) -> Gap | None:
        for action in actions:
            if gap := await action(server):
                return gap
        return None

    return Step(pattern, all_of_them)


def sql(*statements: str) -> Action:
    """Runs statements, each when what the one before it caused has been sent."""

    async def run(server: Server) -> None:
        for statement in statements:
            await server.execute(statement)
            await server.settle()

    return run


def at_once(*statements: str) -> Action:
    """Runs statements, each in its own transaction, before any of their rows is judged.

    None waits for the disk, and only what is on the disk is decoded: that is after the last.
    """
    transactions = "".join(f"begin; {statement}; commit; " for statement in statements)
    return sql(f"set synchronous_commit = off; {transactions} reset synchronous_commit")


def post(token: str, **message: Any) -> Action:
    """Broadcasts over HTTP; a batch is accepted without a body, whoever may hear it."""

    async def run(server: Server) -> Gap | None:
        answer = await server.broadcast(token, message)
        return None if answer == (202, "") else Gap("202, no body", f"{answer[0]}, {answer[1]}")

    return run


async def _stop(server: Server) -> None:
    server.stop()


def _replaced(pattern: str, value: Callable[[], object]) -> Callable[[Line], str | bytes]:
    """Puts another value where a pattern ends, as JSON."""

    def rewrite(line: Line) -> str | bytes:
        assert isinstance(line.data, str)
        return re.sub(pattern, lambda found: found[1] + json.dumps(value()), line.data)

    return rewrite


def _an_hour_ago_ms() -> int:
    return int(time.time() * 1000) - 3_600_000


def _token_for_seconds() -> str:
    return token("anon", exp=int(time.time()) + 5)


def _whole(line: Line) -> str | bytes:
    """Restores a broadcast of many x that was cut in the capture."""
    if not line.cut_from:
        return line.data
    assert isinstance(line.data, str)
    head = line.data.removesuffix("...")
    ref = {100: 2, 2900: 3, 3100: 4, 4700: 5}[line.cut_from // 1000]
    tail = '"}}]' if head.startswith("[") else f'"}}}}, "ref": "{ref}", "join_ref": "1"}}'
    return head + "x" * (line.cut_from - len(head) - len(tail)) + tail


ANON, AS_ALICE = token("anon"), token("authenticated", ALICE)

FROM_THE_DATABASE = sql(
    "insert into room_messages (room, body) values ('room:1', 'hi')",
    "update room_messages set body = 'hi2'",
    "delete from room_messages",
    "select realtime.send('{\"z\": 1}', 'custom', 'room:1', true)",
    "select realtime.send('{\"z\": 2}', 'public-not-private', 'room:1', false)",
    "select realtime.send('[1, 2]', 'arr', 'room:1', true)",
    "select realtime.send_binary('\\x0001ff', 'bin', 'room:1', true)",
)
"""Each kind of broadcast from the database, and two that must not arrive at a private channel."""

CHANGES = Flow(
    (
        before(
            "commit_timestamp",
            sql(
                f"""insert into todos (title, owner, n, data)
                    values ('priv', '{ALICE}', 1.50, '{{"k": [1]}}')""",
                "insert into todos (title, is_public) values ('pub', true)",
                "update todos set title = 'upd'",
                "update todos set is_public = false where owner is null",
                "delete from todos",
                f"""insert into todos_full (title, owner, is_public)
                    values ('full', '{ALICE}', true)""",
                "update todos_full set title = 'full2'",
                "delete from todos_full",
                "insert into plain values (1, 'a')",
                "update plain set id = 2",
                "delete from plain",
                "insert into plain values (10, 'a'), (11, 'b'), (12, 'c')",
                "truncate plain",
            ),
        ),
    )
)
"""Rows that somebody may see, that nobody may, and that come into sight and out of it."""

PYTHON_CHANGES = Flow(
    (
        before(
            "commit_timestamp",
            sql(
                f"""insert into todos (title, owner, n, data)
                    values ('private of alice', '{ALICE}', 1.50, '{{"k": [1]}}')""",
                "insert into todos (title, is_public) values ('public one', true)",
                "update todos set title = 'upd'",
                "delete from todos",
            ),
        ),
    )
)
"""The same, shorter, as the Python client was shown it."""

FLOWS: dict[str, Flow] = {
    "pgc_service_role": CHANGES,
    "pgc_alice": CHANGES,
    "pgc_anon": CHANGES,
    "py_client_2_postgres_changes_service_role": PYTHON_CHANGES,
    "py_client_2_postgres_changes_alice": PYTHON_CHANGES,
    "py_client_2_postgres_changes_anon": PYTHON_CHANGES,
    "py_supabase_acreate_client": Flow(
        (
            before(
                "INSERT.*commit_timestamp|event.*meta",
                sql(
                    "select realtime.send('{\"a\": 1}', 'e', 'sbtest', false)",
                    "insert into plain values (999, 'sb')",
                    "truncate plain",
                ),
            ),
        )
    ),
    "refresh": Flow(
        (
            before(
                "alice only",
                sql(f"insert into todos (title, owner) values ('alice only', '{ALICE}')"),
            ),
            before('"type":"DELETE"', sql("delete from todos")),
        )
    ),
    "gap": Flow(
        (
            before(
                "commit_timestamp",
                sql(
                    *(f"insert into plain values ({number}, 'gap')" for number in range(100, 110)),
                    "truncate plain",
                ),
            ),
        )
    ),
    "fast": Flow(
        (
            before(
                "commit_timestamp",
                at_once(
                    "insert into todos (id, title, is_public) values (5002, 'gone', true)",
                    "delete from todos",
                    "insert into plain values (5002, 'a')",
                    "delete from plain",
                ),
                at_once(
                    "insert into todos (id, title) values (5003, 'SECRET DRAFT')",
                    "update todos set title = 'published', is_public = true",
                ),
                at_once(
                    "update todos set title = 'SECRET AGAIN'",
                    "update todos set is_public = false",
                ),
            ),
            before("^out close", sql("truncate todos")),
        )
    ),
    "types": Flow(
        (
            before(
                "INSERT",
                sql(
                    """insert into typ values (
                        '00000000-0000-0000-0000-000000000001', 1, 9007199254740993,
                        12345678901234567890.123456789, 'NaN', E'quote" \\\\ é 😀', 'abc',
                        '\\x00ff', '2024-01-02 03:04:05.678', '2024-01-02 03:04:05.678+02',
                        '2024-01-02', '03:04:05', '1 day 02:00:00', '{"a": 1}', '{"b": [1, null]}',
                        '{1,2,NULL}', '{a,"b,c"}', 'sad', '{sad,ok}', '10.0.0.1/8', true, '[1,5)',
                        repeat('x', 9000)
                    )""",
                    "update typ set t = 'only t changed'",
                    """insert into typ (id, tz)
                        values ('00000000-0000-0000-0000-000000000002', 'infinity')""",
                    """insert into typ (id, t)
                        values ('00000000-0000-0000-0000-000000000003', repeat('x', 1100000))""",
                    "insert into nopk values (1)",
                    "delete from typ",
                ),
            ),
        )
    ),
    "types_nogrant": Flow(
        (
            before(
                "commit_timestamp",
                sql("insert into nogrant values (1)", "delete from nogrant"),
            ),
        )
    ),
    "types_select": Flow(
        (
            before(
                "commit_timestamp",
                sql(
                    "insert into todos (title, is_public) values ('sel', true)",
                    "delete from todos",
                ),
            ),
        )
    ),
    "broadcast": Flow(
        (
            before("viahttp", post(ANON, topic="pub1", event="viahttp", payload={"y": 2})),
            before("dbevent", sql(
                """select realtime.send('{"from": "db"}', 'dbevent', 'pub1', false)""",
            )),
        )
    ),
    "private_alice": Flow(
        (
            before("INSERT", FROM_THE_DATABASE),
            before(
                "httppriv",
                post(
                    AS_ALICE, topic="room:1", event="httppriv", payload={"p": 1}, private=True,
                ),
                post(
                    ANON, topic="room:1", event="httppriv-anon", payload={"p": 1}, private=True,
                ),
            ),
        )
    ),
    "private_replay": Flow(
        (before("^out http", FROM_THE_DATABASE),),
        rewrite=_replaced(r'("since": )\d+', _an_hour_ago_ms),
    ),
    "py_client_3_private_alice": Flow((before("INSERT", FROM_THE_DATABASE),)),
    "expiry": Flow(
        rewrite=_replaced(r'("access_token": )"[^"]*"', _token_for_seconds), apart=True
    ),
    "big": Flow(rewrite=_whole),
    "idle": Flow(rules=Rules(idle_seconds=1.0), apart=True),
    "restart": Flow((before("^in close", _stop),), rules=Rules(), apart=True),
}  # fmt: skip
"""Flows that are more than their frames."""

NOT_PLAYED = {
    "dbdown": "depends on when the database went",
    "dbdown_private": "depends on when the database went",
    "gapcold": "depends on how long the server took to connect",
    "joinrate": "shows on six sockets what joinrate_channels shows on one",
}
"""Flows that are not played, and why."""
