"""What runs in a day: a bridge, a relay on the database, clients of both, and the lines between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import SecretStr

from conv_realtime import Bridge
from conv_realtime.relay import Relay
from conv_realtime.settings import Settings
from conv_realtime.testing.supabase import SupabaseLocal
from tests.relay.proxy import Proxy
from tests.simulator.faults import FeedFaults, StoreFaults
from tests.simulator.followers import (
    ChannelClient,
    Client,
    JavaScriptClient,
    PythonClient,
    RawClient,
)
from tests.simulator.processes import Child, InProcess, Process, behind_proxy

MACHINE = "simulated"


class Stage:
    """Processes and clients on a folder and a project.

    Attributes:
        processes: the bridge and the relay, by name.
        clients: of both, and of the project itself.
        store_faults, feed_faults: what goes wrong; `injected` counts it.
    """

    def __init__(
        self, supabase: SupabaseLocal, folder: Path, state_dir: Path, injected: Counter[str]
    ) -> None:
        self._supabase = supabase
        self._folder = folder
        self._state_dir = state_dir
        self._injected = injected
        self.processes: dict[str, Process] = {}
        self.clients: list[Client] = []

    async def set_up(
        self, stack: AsyncExitStack, *, kill: bool, javascript: Callable[..., Any] | None
    ) -> None:
        """Run everything until `stack` is left; with `kill` the bridge can be killed."""
        enter = stack.enter_async_context
        address = urlsplit(self._supabase.url)
        assert address.hostname is not None and address.port is not None
        self._links = {
            name: await enter(Proxy.to(address.hostname, address.port))
            for name in ("bridge", "relay", "channel")
        }
        (self._folder / "projects").mkdir()
        settings = self.settings("bridge", self._supabase.secret_key)
        proxy = await enter(behind_proxy())
        here: Process = Child(settings, proxy) if kill else InProcess(Bridge, settings, proxy)
        relay = InProcess(
            Relay, self.settings("relay", self._supabase.secret_key), await enter(behind_proxy())
        )
        self.processes = {"bridge": here, "relay": relay}
        stack.push_async_callback(self._end)
        for process in self.processes.values():
            await process.start()
        self.store_faults = StoreFaults(self._supabase.faults, self._injected)
        self.feed_faults = FeedFaults(self._supabase.faults, self._links["relay"], self._injected)
        self.clients = [
            PythonClient("bridge", here.url),
            RawClient("bridge", here.url),
            PythonClient("relay", relay.url),
            RawClient("relay", relay.url),
            ChannelClient(self.settings("channel", self._supabase.token())),
        ]
        if javascript is not None:
            self.clients.append(await self._javascript(javascript))
        for client in self.clients:
            client.start()

    def settings(self, link: str, key: str) -> Settings:
        """Return the settings of who reaches the project by a line, with a key."""
        return Settings.model_construct(
            supabase_url=f"http://127.0.0.1:{self._links[link].port}",
            supabase_key=SecretStr(key),
            supabase_jwt_secret=SecretStr(self._supabase.jwt_secret),
            owner_id=UUID(self._supabase.owner_id),
            machine=MACHINE,
            state_dir=self._state_dir,
            paths=[self._folder / "projects"],
            rest_seconds=0.05,
            sweep_seconds=0.4,
            request_timeout=3.0,
            reconcile_interval=0.3,
            batch_rows=5,
            client_queue_events=200,
            replay_events=100,
        )

    async def _javascript(self, ask: Callable[..., Any]) -> Client:
        supabase = {
            "name": "day",
            "url": self._supabase.url,
            "key": self._supabase.publishable_key,
            "tokens": [self._supabase.token()],
        }
        often = {"reconcileMs": 400, "pollMs": 200, "messages": 1000}
        options = {**often, "firstPauseMs": 20, "longestPauseMs": 200}
        await ask("follow", name="day", supabase=supabase, options=options)
        return JavaScriptClient("javascript", ask, "day")

    async def _end(self) -> None:
        self.heal()
        for client in self.clients:
            await client.stop()
        for process in self.processes.values():
            await process.crash()

    def heal(self) -> None:
        """End all faults."""
        self.store_faults.end()
        self.feed_faults.end()
