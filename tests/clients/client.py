"""What the shared conversation asks of a client, whatever language it is written in."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

PATIENCE = 30.0

Row = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """Of the Data API: rows or a value, or the code of a refusal."""

    data: Any
    code: str | None = None


@dataclass(frozen=True)
class Joined:
    """The first outcome of a subscription."""

    status: str
    reason: str | None = None


@dataclass(frozen=True)
class Heard:
    """A broadcast."""

    event: str
    payload: Any
    meta: Any = None


@dataclass(frozen=True)
class Changed:
    """A row of `postgres_changes`."""

    type: str
    table: str
    new: Row
    old: Row


class Inbox:
    """What has arrived and was not asked for yet, by kind and topic."""

    def __init__(self) -> None:
        self._queues: defaultdict[tuple[str, str], asyncio.Queue[Any]] = defaultdict(asyncio.Queue)

    def put(self, kind: str, topic: str, what: Any) -> None:
        """Keeps one thing."""
        self._queues[kind, topic].put_nowait(what)

    async def next(self, kind: str, topic: str) -> Any:
        """Waits for the next one; says what else came where none comes."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._queues[kind, topic].get()
        except TimeoutError:
            waiting = {key: queue.qsize() for key, queue in self._queues.items()}
            raise AssertionError(f"no {kind} on {topic}; waiting: {waiting}") from None

    def count(self, kind: str, topic: str) -> int:
        """Gives how many wait."""
        return self._queues[kind, topic].qsize()


def channel_config(*, private: bool, echo: bool) -> Row:
    """Gives what every client joins a channel with; `echo` also asks for acknowledgements."""
    return {"private": private, "broadcast": {"self": echo, "ack": echo}}


class Client(Protocol):
    """An official client with the publishable key and, once signed in, a user's token."""

    inbox: Inbox
    """Kinds: "broadcast" (`Heard`), "change" (`Changed`), "status" (of a subscription after its
    first outcome), "system" (the status of `postgres_changes`)."""

    async def sign_in(self, token: str) -> None:
        """Speaks for a user from now on, also on channels that are joined."""

    async def select(
        self, table: str, columns: str, where: Mapping[str, Any], order: str
    ) -> Answer:
        """Reads the rows that have these values."""

    async def upsert(self, table: str, rows: Sequence[Row]) -> Answer:
        """Upserts on the primary key; gives the rows that were written."""

    async def rpc(self, name: str, **given: Any) -> Answer:
        """Calls a function."""

    async def join(
        self,
        topic: str,
        *,
        private: bool = False,
        echo: bool = False,
        events: Sequence[str] = (),
        changes: Sequence[Mapping[str, str]] = (),
    ) -> Joined:
        """Subscribes; with `echo` the client hears itself, and is told that it was heard."""

    async def send(self, topic: str, event: str, payload: Row) -> None:
        """Broadcasts through the socket."""

    async def http_send(self, topic: str, event: str, payload: Row) -> None:
        """Broadcasts through HTTP."""

    async def leave(self, topic: str) -> None:
        """Unsubscribes."""
