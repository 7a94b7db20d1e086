"""What Prometheus reads, and that it costs nobody anything who did not ask for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import websockets
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from conv_realtime import ConfigError, testing
from conv_realtime.cli.server import Server
from conv_realtime.ports import Page as FeedPage
from conv_realtime.testing import claude_line
from conv_realtime.testing.bridging import TestBridge
from tests.ingest.running import until

SECRET = "ghp_" + "a1B2c3D4e5F6" * 3


class Page:
    """The numbers of a server, by name and labels."""

    def __init__(self, text: str) -> None:
        self._samples = {
            (sample.name.removeprefix("conv_realtime_"), tuple(sorted(sample.labels.items()))): (
                sample.value
            )
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        return self._samples[name, tuple(sorted(labels.items()))]


class Serving:
    """A bridge without a database behind a server that counts."""

    def __init__(self, bridge: TestBridge, address: str) -> None:
        self.bridge = bridge
        self.url = f"http://{address}/metrics"
        self.ws = f"ws://{address}/ws"

    async def page(self) -> Page:
        async with httpx.AsyncClient() as http:
            return Page((await http.get(self.url)).raise_for_status().text)


@asynccontextmanager
async def serving() -> AsyncIterator[Serving]:
    async with testing.bridge(metrics_path="/metrics") as bridge:
        async with Server("127.0.0.1", 0) as server:
            await server.start(Starlette(routes=bridge.bridge.routes))
            yield Serving(bridge, server.address)


def _line(text: str, at: datetime | None = None) -> bytes:
    return claude_line(text, uuid=text[:20], timestamp=(at or datetime.now(UTC)).isoformat())


async def test_everything_is_counted_once() -> None:
    """Lines, what was skipped and why, secrets, rows, frames, and how long it took."""
    async with serving() as served, websockets.connect(served.ws, proxy=None) as client:
        await client.recv()
        served.bridge.append(_line("one"))
        served.bridge.append(b"not JSON\n", session=testing.SESSION)
        served.bridge.append(_line(f"my key is {SECRET}"))
        heard: list[object] = []
        while len(heard) < 2:
            event = json.loads(await client.recv())
            heard += [event] if event["type"] == "new_message" else []
        await until(lambda: len(served.bridge.store.messages) == 2)
        page = await served.page()
        assert page("lines_read_total") == 3
        assert page("lines_skipped_total", reason="not JSON") == 1
        assert page("rows_upserted_total") >= 4
        assert (page("clients"), page("files"), page("feed_live")) == (1, 1, 1)
        assert (page("queue"), page("dead_letters"), page("rows_refused_total")) == (0, 0, 0)
        assert page("frames_delivered_total") >= 2
        assert page("told_seconds_count") == 2
        assert page("stored_seconds_count") >= 1
        assert 0 <= page("told_seconds_sum") < 60
        kinds = sum(
            value for (name, _), value in page._samples.items() if name == "secrets_redacted_total"
        )
        assert kinds == 1


async def test_history_says_nothing_about_how_fast_it_is() -> None:
    """It is counted, but how long ago it was written is not how long it took."""
    async with serving() as served, websockets.connect(served.ws, proxy=None):
        served.bridge.append(_line("old", at=datetime.now(UTC) - timedelta(days=3)))
        await until(lambda: served.bridge.store.messages)
        page = await served.page()
        assert page("lines_read_total") == 1
        assert (page("told_seconds_count"), page("stored_seconds_count")) == (0, 0)


async def test_an_outage_is_counted() -> None:
    """Attempts, and what waits meanwhile."""
    async with serving() as served:
        served.bridge.store.down = True
        served.bridge.append(_line("waits"))
        await until(lambda: served.bridge.bridge.health()[1]["ingest"]["last_error"])
        page = await served.page()
        assert page("store_retries_total") >= 1
        assert page("queue") == 1
        served.bridge.store.down = False


async def test_gaps_are_counted_by_reason() -> None:
    """Who comes with a cursor of another run; who was connected when the stream broke."""
    async with serving() as served, websockets.connect(served.ws, proxy=None) as client:
        await client.send('{"type": "subscribe", "data": {"since": "another.1"}}')
        while json.loads(await client.recv())["type"] != "resync":
            pass
        hub = served.bridge.bridge.manager.hub
        hub.take(FeedPage([], "new.1", resync=True))
        page = await served.page()
    reasons = ("too_slow", "unknown_cursor", "source_gap")
    assert [page("resyncs_total", reason=reason) for reason in reasons] == [0, 1, 1]


async def test_strangers_read_none_of_it() -> None:
    """As with the details of /healthz."""
    async with serving() as served, httpx.AsyncClient() as http:
        answer = await http.get(served.url, headers={"x-forwarded-for": "203.0.113.9"})
        assert answer.status_code == 403
        assert "conv_realtime_" not in answer.text


async def test_it_is_off_unless_asked_for() -> None:
    """No path, and nothing that counts."""
    async with testing.bridge() as bridge, Server("127.0.0.1", 0) as server:
        await server.start(Starlette(routes=bridge.bridge.routes))
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"http://{server.address}/metrics")).status_code == 404
        assert bridge.bridge._metrics is None
        assert bridge.bridge._relay.metrics is None


def test_off_it_is_not_even_imported() -> None:
    """A start without metrics does not pay for the library."""
    program = (
        "import asyncio, sys\nfrom conv_realtime import testing\n"
        "async def main():\n"
        "    async with testing.bridge(): pass\n"
        "asyncio.run(main())\n"
        "assert 'prometheus_client' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


async def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the bridge is entered, before anything runs."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"pip install 'conv_realtime\[metrics\]'"):
        async with testing.bridge(metrics_path="/metrics"):
            pass
