"""The local Realtime server: Supabase's WebSocket and HTTP endpoints on our own PostgreSQL.

Broadcasts, private channels authorised by the policies on ``realtime.messages``, broadcasts from
the database, and `postgres_changes`. Presence is ignored.

Differences from a hosted server, on purpose: no rate limits, no delay before a refusal (see
`Rules`), and after a restart of PostgreSQL broadcasts from the database go on by themselves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from typing import Self
from urllib.parse import parse_qs

import orjson
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.types import Receive, Scope, Send

from conv_realtime.background import beside
from conv_realtime.local.keys import Verify
from conv_realtime.local.realtime.access import AccessChecker
from conv_realtime.local.realtime.broadcast import PUBLICATION, publish_transaction
from conv_realtime.local.realtime.broadcast_http import BroadcastApi
from conv_realtime.local.realtime.changes.service import Changes
from conv_realtime.local.realtime.channels import PREFIX, Topics
from conv_realtime.local.realtime.connections import Connections
from conv_realtime.local.realtime.frames import Version
from conv_realtime.local.realtime.outbox import Turn, outbox
from conv_realtime.local.realtime.policy import Policy
from conv_realtime.local.realtime.replay import History
from conv_realtime.local.realtime.rules import Rules, Surroundings
from conv_realtime.local.realtime.session import Session
from conv_realtime.local.realtime.tokens import Token, TokenRefused, read_token
from conv_realtime.local.wal.pgoutput import Transaction
from conv_realtime.local.wal.source import WalSource

log = logging.getLogger("conv_realtime.local.realtime")

WEBSOCKET_PATH = "/realtime/v1/websocket"
NORMAL_CLOSURE = 1000
_POLICY_CONNECTIONS = 4
_REFUSED_SECONDS = 1.0


class RealtimeServer:
    """The endpoints under ``/realtime/v1``, alive between entering and leaving.

    Args:
        dsn: of a superuser-like role: it replicates, writes ``realtime.messages`` past its
            policies, and becomes any role that a token names.
        verify: checks a JWT; see `keys.Verify`.
        rules: limits and delays.
        policy: what a test lets happen; see `Policy`.
    """

    def __init__(
        self,
        dsn: str,
        *,
        verify: Verify,
        rules: Rules | None = None,
        policy: Policy | None = None,
    ) -> None:
        self._rules = rules or Rules()
        self._verify = verify
        self._dsn = dsn
        self._policy = policy
        self._topics = Topics(policy)
        self._replicating = asyncio.Event()
        self._stack = AsyncExitStack()
        self._around: Surroundings | None = None

    async def __aenter__(self) -> Self:
        """Connects; returns when broadcasts from the database are certain to be seen.

        If replication does not start within some seconds it returns anyway and keeps trying.
        """
        async with AsyncExitStack() as stack:
            connections = Connections(
                self._dsn,
                None,
                limit=_POLICY_CONNECTIONS,
                statement_seconds=self._rules.policy_seconds,
                search_path="public,extensions",
                name="conv_realtime_policies",
            )
            stack.push_async_callback(connections.close)
            await stack.enter_async_context(self._replication())
            rules = self._rules
            changes = Changes(self._dsn, rules.policy_seconds, rules.publication_seconds)
            await stack.enter_async_context(changes.running())
            self._around = Surroundings(
                self._topics,
                AccessChecker(connections),
                changes,
                History(connections),
                self._verify,
                self._rules,
                time.time,
                self._replicating.is_set,
                self._policy,
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(self._rules.database_seconds):
                    await self._replicating.wait()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Frees the walsender and every connection to the database.

        Sockets belong to the web server in front, which closes them before.
        """
        await self._stack.aclose()

    @property
    def routes(self) -> list[BaseRoute]:
        """The WebSocket endpoint and both HTTP broadcast endpoints, at their full paths."""
        around = self._surroundings()
        return [WebSocketRoute(WEBSOCKET_PATH, _Endpoint(around)), *BroadcastApi(around).routes]

    @property
    def replicating(self) -> bool:
        """Whether broadcasts from the database are being seen right now."""
        return self._replicating.is_set()

    def drop_sockets(self, name: str | None = None) -> int:
        """Cuts the sockets that have joined a topic, or all; returns how many."""
        around = self._surroundings()
        sockets = around.sockets if name is None else self._topics.subscribers(PREFIX + name)
        dropped = list(sockets)
        for socket in dropped:
            socket.drop()
        return len(dropped)

    def close_channels(self, name: str | None, message: str) -> int:
        """Ends the channels on a topic, or all, with an error; returns how many."""
        topic = None if name is None else PREFIX + name
        return sum(socket.shut(topic, message) for socket in list(self._surroundings().sockets))

    def recheck_tokens(self) -> None:
        """Closes every channel whose token no longer holds."""
        for socket in list(self._surroundings().sockets):
            socket.recheck()

    def _surroundings(self) -> Surroundings:
        if self._around is None:
            raise RuntimeError("the Realtime server has not been started")
        return self._around

    def _replication(self) -> AbstractAsyncContextManager[None]:
        source = WalSource(
            self._dsn,
            [PUBLICATION],
            self._deliver,
            connected=self._on_replication,
            may_connect=self._policy.may_replicate if self._policy else None,
        )
        return beside(source.run(), "conv_realtime.local.wal")

    def _on_replication(self, connected: bool) -> None:
        if connected:
            self._replicating.set()
        else:
            self._replicating.clear()
        if self._policy is not None:
            self._policy.replicates(connected)

    def _deliver(self, transaction: Transaction) -> None:
        try:
            publish_transaction(transaction, self._topics, self._rules.max_payload_bytes)
        except Exception:  # one odd row must not end everybody's stream
            log.exception("a transaction's broadcasts could not be published")


class _Endpoint:
    """The WebSocket endpoint as a plain ASGI app, so that nothing wraps the server's ``send``."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._turn = Turn()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        query = parse_qs(scope["query_string"].decode("ascii", "replace"))
        version = Version.of(query.get("vsn", [""])[0])
        if version is None:
            await _refuse(scope, receive, send, 403, b"")
            return
        try:
            token = self._key(scope, query)
        except TokenRefused as refusal:
            await asyncio.sleep(self._around.rules.connect_error_seconds)
            body = orjson.dumps({"error": refusal.at_connect})
            await _refuse(scope, receive, send, 401, body)
            return
        await send({"type": "websocket.accept"})
        await self._converse(receive, send, version, token)

    def _key(self, scope: Scope, query: dict[str, list[str]]) -> Token:
        """Reads the API key that speaks for the connection.

        Raises:
            TokenRefused: it is missing or does not hold.
        """
        headers = dict(scope["headers"])
        header = headers.get(b"apikey") or headers.get(b"x-api-key") or b""
        key = query.get("apikey", [header.decode("latin-1")])[0]
        if not key:
            raise TokenRefused("API key is missing", "", "")
        return read_token(key, self._around.verify, self._around.now())

    async def _converse(self, receive: Receive, send: Send, version: Version, token: Token) -> None:
        loop = asyncio.get_running_loop()
        idle_seconds = self._around.rules.idle_seconds
        out = outbox(send, self._around.rules.max_buffered_bytes, self._turn)
        session = Session(out, version, token, self._around)
        self._around.sockets.add(session)
        try:
            # One deadline for both reasons to give a client up: it says nothing, it reads nothing.
            async with asyncio.timeout(idle_seconds) as deadline:

                def give_up() -> None:
                    if not deadline.expired():
                        deadline.reschedule(loop.time())

                async with out.writing(give_up):
                    while (message := await receive())["type"] != "websocket.disconnect":
                        deadline.reschedule(loop.time() + idle_seconds)
                        text = message.get("text")
                        await session.receive(message["bytes"] if text is None else text)
            return
        except TimeoutError:
            if out.full:
                log.debug("a socket that does not read was dropped")
                return
        finally:
            self._around.sockets.discard(session)
            session.end()
        await out.drain()
        await send({"type": "websocket.close", "code": NORMAL_CLOSURE})


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, body: bytes) -> None:
    """Answers the upgrade with an HTTP status, or just refuses where the server cannot."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    headers = [
        (b"content-type", b"application/json; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
    # uvicorn logs an error where the application ends before the refused connection is gone,
    # which it tells after the disconnect that follows from the refusal itself.
    with suppress(TimeoutError):
        async with asyncio.timeout(_REFUSED_SECONDS):
            await receive()
            await receive()
