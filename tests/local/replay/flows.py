"""What happened between the frames of each captured flow, and what makes a flow special."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from conv_realtime.local.realtime.rules import Rules
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
        rewrite: changes a text frame of the client that would be stale by now.
        rules: of a server for this flow alone; None plays it on the one behind the gateway.
    """

    steps: tuple[Step, ...] = ()
    rewrite: Callable[[str], str] = lambda text: text
    rules: Rules | None = None


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


def post(token: str, **message: Any) -> Action:
    """Broadcasts over HTTP; a batch is accepted without a body, whoever may hear it."""

    async def run(server: Server) -> Gap | None:
        answer = await server.broadcast(token, message)
        return None if answer == (202, "") else Gap("202, no body", f"{answer[0]}, {answer[1]}")

    return run


async def _stop(server: Server) -> None:
    server.stop()


def _since_an_hour_ago(text: str) -> str:
    return re.sub(r'("since": )1\d{12}', lambda found: f"{found[1]}{now_ms() - 3_600_000}", text)


def now_ms() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


def _expiring_soon(text: str) -> str:
    soon = token("anon", exp=int(time.time()) + 2)
    return re.sub(r'("access_token": )"[^"]*"', lambda found: found[1] + json.dumps(soon), text)


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

FLOWS: dict[str, Flow] = {
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
    "private_replay": Flow((before("^out http", FROM_THE_DATABASE),), _since_an_hour_ago),
    "py_client_3_private_alice": Flow((before("INSERT", FROM_THE_DATABASE),)),
    "expiry": Flow(rewrite=_expiring_soon),
    "idle": Flow(rules=Rules(idle_seconds=1.0)),
    "restart": Flow((before("^in close", _stop),), rules=Rules()),
}  # fmt: skip
"""Flows that are more than their frames."""

_NO_CHANGES = "postgres_changes is not served"

NOT_PLAYED = {
    "big": "its frames were cut when they were captured",
    "dbdown": "depends on when the database went",
    "dbdown_private": "depends on when the database went",
    "gapcold": "depends on how long the server took to connect",
    "joinrate": "shows on six sockets what joinrate_channels shows on one",
} | dict.fromkeys(
    (
        "fast", "gap", "pgc_alice", "pgc_anon", "pgc_errors", "pgc_service_role",
        "py_client_2_postgres_changes_alice", "py_client_2_postgres_changes_anon",
        "py_client_2_postgres_changes_service_role", "py_supabase_acreate_client",
        "refresh", "tenant_disconnect", "types", "types_nogrant", "types_select", "malformed",
    ),
    _NO_CHANGES,
)  # fmt: skip
"""Flows that are not played, and why."""
