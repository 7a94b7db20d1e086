"""What runs: a bridge and a relay, in this process or as children, that can be ended in any way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

from starlette.applications import Starlette

from conv_realtime import Bridge
from conv_realtime.edges.checkpoints import lock
from conv_realtime.edges.feed import supabase as feed
from conv_realtime.edges.live import client as live
from conv_realtime.ingest import database, pace, sending, waking
from conv_realtime.relay import Relay
from conv_realtime.relay import service as relay_service
from conv_realtime.settings import Settings
from tests.relay.proxy import Proxy
from tests.relay.serving import Server, serve

START_SECONDS = 60.0


@contextmanager
def impatience() -> Iterator[None]:
    """Everybody waits less than they would: a day has a second or two."""
    shorter: list[tuple[Any, str, Any]] = [
        (pace, "FIRST_DELAY", 0.02),
        (pace, "LONGEST_DELAY", 0.2),
        (sending, "LATER_SECONDS", 0.1),
        (database, "STATE_SECONDS", 0.1),
        (database, "_ASK_SECONDS", 0.5),
        (waking, "APPEAR_SECONDS", 0.1),
        (waking, "FASTEST_SWEEP_SECONDS", 0.1),
        (lock, "LOCK_SECONDS", 0.05),
        (feed, "POLL_SECONDS", 0.1),
        (feed, "_SHORTEST_PAUSE", 0.02),
        (live, "PAUSES", (0.02, 0.2)),
        (relay_service, "_RESTART_SECONDS", 0.1),
        (relay_service, "_HEAD_SECONDS", 0.3),
    ]
    with ExitStack() as stack:
        for module, name, value in shorter:
            stack.enter_context(patch.object(module, name, value))
        stack.enter_context(patch("conv_realtime.bridge.RESTART_SECONDS", 0.1))
        yield


class Process(ABC):
    """A server of `/ws` behind a proxy, which stays where it is."""

    def __init__(self, settings: Settings, proxy: Proxy) -> None:
        self.settings = settings
        self._proxy = proxy

    @property
    def url(self) -> str:
        """Where `/ws` is, whoever serves it now."""
        return f"ws://127.0.0.1:{self._proxy.port}/ws"

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether it has been started and not ended."""

    @abstractmethod
    async def start(self) -> None:
        """Start it, unless it runs."""

    @abstractmethod
    async def stop(self) -> None:
        """End it in order."""

    @abstractmethod
    async def crash(self) -> None:
        """End it at once."""

    def cut_clients(self) -> None:
        """End all connections of its clients."""
        self._proxy.cut()

    def _serve_at(self, port: int) -> None:
        self._proxy.point_at("127.0.0.1", port)


class InProcess(Process):
    """A bridge or a relay in this process."""

    def __init__(self, kind: type[Bridge] | type[Relay], settings: Settings, proxy: Proxy) -> None:
        super().__init__(settings, proxy)
        self._kind = kind
        self._task: asyncio.Task[None] | None = None
        self._end = asyncio.Event()
        self._server: Server | None = None
        self.running_one: Bridge | Relay | None = None

    @property
    def running(self) -> bool:
        """Whether it has been started and not ended."""
        return self._task is not None

    async def start(self) -> None:
        """Start it, unless it runs."""
        if self._task is None:
            self._end.clear()
            started = asyncio.Event()
            self._task = asyncio.create_task(self._run(started), name=self._kind.__name__)
            waiting = asyncio.create_task(started.wait(), name="start")
            await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if self._task.done():
                self._task.result()

    async def _run(self, started: asyncio.Event) -> None:
        one = self._kind(settings=self.settings)
        async with one, serve(Starlette(routes=one.routes), lifespan="off") as self._server:
            self.running_one = one
            self._serve_at(self._server.port)
            started.set()
            await self._end.wait()
            self.running_one = None

    async def stop(self) -> None:
        """End it in order."""
        task, self._task = self._task, None
        if task is not None:
            self._end.set()
            await task

    async def crash(self) -> None:
        """End it at once: nothing is sent any more, to nobody."""
        task, self._task = self._task, None
        if task is None:
            return
        if self._server is not None:
            server, self._server = self._server.server, None
            for listening in getattr(server, "servers", ()):
                listening.close()
            for connection in list(server.server_state.connections):
                if (transport := getattr(connection, "transport", None)) is not None:
                    transport.abort()
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)


class Child(Process):
    """`conv-realtime up`, to be ended by `kill -9`."""

    def __init__(self, settings: Settings, proxy: Proxy) -> None:
        super().__init__(settings, proxy)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        """Whether it has been started and not ended."""
        return self._process is not None

    async def start(self) -> None:
        """Start it, unless it runs, and wait until it says that it is ready."""
        if self._process is not None:
            return
        arguments = ["-m", "tests.simulator.up", str(self._paths())]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, env=self._environment(), stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            line = await self._process.stdout.readline()
        if not line:
            raise AssertionError(f"it ended with {await self._process.wait()}")
        self._serve_at(urlsplit(json.loads(line)["ws"]).port or 0)

    async def stop(self) -> None:
        """End it as by Ctrl-C."""
        await self._send(signal.SIGINT)

    async def crash(self) -> None:
        """Kill it."""
        await self._send(signal.SIGKILL)

    async def _send(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            await process.wait()

    def _paths(self) -> Path:
        assert self.settings.paths
        return self.settings.paths[0]

    def _environment(self) -> dict[str, str]:
        settings = self.settings
        assert settings.supabase_url and settings.supabase_key and settings.machine
        names = ("rest_seconds", "sweep_seconds", "request_timeout", "batch_rows", "replay_events")
        told = {f"CONV_REALTIME_{name.upper()}": str(getattr(settings, name)) for name in names}
        return {
            **{name: value for name, value in os.environ.items() if "SUPABASE" not in name},
            **told,
            "SUPABASE_URL": settings.supabase_url,
            "SUPABASE_SECRET_KEY": settings.supabase_key.get_secret_value(),
            "CONV_REALTIME_OWNER_ID": str(settings.owner_id),
            "CONV_REALTIME_MACHINE": settings.machine,
            "CONV_REALTIME_STATE_DIR": str(settings.state_dir),
        }


@asynccontextmanager
async def behind_proxy() -> AsyncIterator[Proxy]:
    """Give a proxy that leads nowhere yet."""
    async with Proxy.to("127.0.0.1", 9) as proxy:
        yield proxy
