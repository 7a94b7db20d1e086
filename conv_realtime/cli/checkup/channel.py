"""Realtime: may we join our topic, and does what is said there come back?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from conv_realtime.background import beside
from conv_realtime.cli.checkup import Check, failed, ok, skipped, warning
from conv_realtime.cli.checkup.gateway import Gateway, why
from conv_realtime.cli.options import until
from conv_realtime.core.cursor import parse_cursor
from conv_realtime.edges.feed.wakeups import WakeUps

_LOOK_SECONDS = 0.02
_JOIN_SECONDS = 25.0  # a server keeps a refusal to itself for five
_ECHO_SECONDS = 10.0
_ATTEMPTS = 3
_AGAIN_SECONDS = 1.0
_POLICIES = "20260101000500_conv_realtime_topics.sql"
_LOGS = "dashboard, Logs, Realtime"


class Channel:
    """Joins the topic that a relay with this key listens to.

    Args:
        gateway: of the project: the Data API, and Realtime's.
        write: whether to write a row and erase it, to hear the database itself.
    """

    def __init__(self, gateway: Gateway, *, write: bool) -> None:
        self._gateway = gateway
        self._access = gateway.access
        self._write = write
        self._word = str(uuid4())
        self._heard = asyncio.Event()
        self._woken = asyncio.Event()

    async def checks(self) -> AsyncIterator[Check]:
        """Yield whether the topic is joined, and whether something comes back."""
        access = self._access
        topic = f"conv_realtime:owner:{access.user}" if access.user else "conv_realtime:changes"

        async def name() -> str:
            return topic

        async def token() -> str | None:
            return access.token if access.token != access.key else None

        url = access.url.rstrip("/").replace("http", "ws", 1) + "/realtime/v1"
        wakeups = WakeUps(url, access.key, name, token, self._hear)
        async with beside(wakeups.run(), "doctor's topic"):
            joined = await self._joined(wakeups, topic)
            yield joined
            if joined.state == "failed":
                yield skipped("round trip", "the topic is not joined")
            else:
                yield await self._round_trip()

    async def _joined(self, wakeups: WakeUps, topic: str) -> Check:
        name, begun = "realtime", time.monotonic()
        try:
            async with asyncio.timeout(_JOIN_SECONDS):
                await until(lambda: wakeups.state in ("joined", "refused"), _LOOK_SECONDS)
        except TimeoutError:
            return failed(
                name,
                f"cannot be reached: {wakeups.reason or 'no answer'}",
                "see whether a proxy in between passes WebSockets, and whether Realtime runs"
                f" ({_LOGS}); without it changes are found by reading, once a second",
            )
        if wakeups.state == "joined":
            took = round((time.monotonic() - begun) * 1000)
            return ok(name, f"joined {topic} in {took} ms", topic=topic, join_ms=took)
        reason = wakeups.reason or "refused"
        if "Disabled" in reason:
            advice = "enable it (dashboard, Realtime, Settings)"
        elif "JWT" in reason or "Token" in reason:
            advice = "take a key or a session of this project that has not expired"
        else:
            advice = (
                f"apply {_POLICIES}: paste it into the dashboard's SQL Editor; it holds the"
                " policies that let owners listen"
            )
        return failed(name, f"refuses {topic}: {reason}", advice)

    async def _round_trip(self) -> Check:
        """Read, and say something that comes back over Realtime."""
        name = "round trip"
        begun = time.monotonic()
        page = await self._gateway.asked("POST", "/rest/v1/rpc/changes_since", {})
        body = page.body if page is not None and isinstance(page.body, dict) else {}
        if parse_cursor(str(body.get("cursor"))) is None:
            return failed(
                name,
                "the database does not say where its changes stand",
                "see the check `rights`; if that is ok, wait: the database may be restarting",
            )
        read = round((time.monotonic() - begun) * 1000)
        if self._access.user is not None:
            return ok(
                name,
                f"changes are read in {read} ms; users may only listen, so nothing was said",
                read_ms=read,
            )
        return await (self._written(read) if self._write else self._said(read))

    async def _said(self, read: int) -> Check:
        """Say a word on our topic, which costs every relay one look at the database."""
        message = {
            "topic": "conv_realtime:changes", "event": "doctor",
            "payload": {"word": self._word}, "private": True,
        }  # fmt: skip
        begun = time.monotonic()
        said = {"messages": [message]}
        answer = await self._gateway.asked("POST", "/realtime/v1/api/broadcast", said)
        if answer is None or answer.status != 202:
            return failed(
                "round trip",
                f"Realtime takes no broadcast: {why(answer)}",
                f"see {_LOGS}; a message rate above the plan's ends in 429",
            )
        if not await _within(self._heard):
            return self._silent("a broadcast that Realtime took")
        took = round((time.monotonic() - begun) * 1000)
        says = f"changes are read in {read} ms, a broadcast comes back in {took} ms"
        return ok("round trip", says, read_ms=read, broadcast_ms=took)

    async def _written(self, read: int) -> Check:
        """Write a project of nobody's, hear of it, and erase it."""
        row = {
            "id": self._word, "owner_id": str(uuid4()), "machine": "conv-realtime doctor",
            "path": "", "name": "conv-realtime doctor", "metadata": {},
            "updated_at": datetime.now(UTC).isoformat(),
        }  # fmt: skip
        try:
            found = await self._heard_of(row, read)
        finally:
            erased = await self._erase(row["id"])
        if erased or found.state == "failed":
            return found
        return failed(
            "round trip",
            f"the row that was written cannot be erased: {row['id']} of projects",
            "delete it (dashboard, Table Editor, projects)",
        )

    async def _heard_of(self, row: Mapping[str, Any], read: int) -> Check:
        """Write a row, and hear of it."""
        self._woken.clear()
        begun = time.monotonic()
        answer = await self._gateway.asked("POST", "/rest/v1/projects", row)
        if answer is None or answer.status != 201:
            return failed(
                "round trip", f"a row is refused: {why(answer)}", "see the check `rights`"
            )
        if not await _within(self._woken):
            return self._silent("a row that the database took")
        took = round((time.monotonic() - begun) * 1000)
        says = f"changes are read in {read} ms, a row that is written is heard of in {took} ms"
        return ok("round trip", says, read_ms=read, written_ms=took)

    def _silent(self, what: str) -> Check:
        return warning(
            "round trip",
            f"{what} was not heard within {_ECHO_SECONDS:.0f} s",
            f"run it again, for Realtime may have been asleep; then see {_LOGS}. Nothing is lost"
            " meanwhile: relays read every 15 s all the same",
        )

    async def _erase(self, id: object) -> bool:
        """Erase the row; return whether it is gone."""
        for _ in range(_ATTEMPTS):
            answer = await self._gateway.asked("DELETE", f"/rest/v1/projects?id=eq.{id}")
            if answer is not None and answer.status in (200, 204):
                return True
            await asyncio.sleep(_AGAIN_SECONDS)
        return False

    def _hear(self, message: Any) -> None:
        payload = message.get("payload") if isinstance(message, dict) else None
        if isinstance(payload, dict):
            self._woken.set()
            if payload.get("word") == self._word:
                self._heard.set()


async def _within(event: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(_ECHO_SECONDS):
            return await event.wait()
    except TimeoutError:
        return False
