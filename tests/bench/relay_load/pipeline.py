"""What fifty clients add to `conv-realtime up` that writes into a database.

The process that users run, from outside: its whole CPU, as the kernel accounts it, while lines are
appended at a steady rate and upserted by supabase-py into a local Supabase of another process. In
turns without and with clients, which are a process of their own, too. Beside it a relay alone is
given the same events: what clients add there is the fan-out, and what they add to `up` beyond that
they add to its ingest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from conv_realtime.testing import claude_line
from tests.bench.harness import Figure, in_turns, ratios
from tests.bench.local_realtime import server as local_supabase
from tests.bench.relay_load.figures import QUIET, TEXT, process_cpu
from tests.bench.relay_load.ingest import real_folder
from tests.bench.rig import program
from tests.bench.sinks import distant_sinks
from tests.relay.rows import changed, conversation, created, message
from tests.relay.serving import Served

FILES = 5
EVENTS = 2
"""What a line is told as: a message, and its conversation's new totals."""
PATIENCE = 60.0


@dataclass(frozen=True)
class Pipeline:
    """Milliseconds of CPU a line, by rounds: `up`, and a relay that is given the same events."""

    clients: int
    rate: float
    seconds: float
    alone: Sequence[float]
    beside: Sequence[float]
    relay_alone: Sequence[float]
    relay_beside: Sequence[float]

    def figures(self) -> Sequence[Figure]:
        """Return its lines."""
        fan_out = [
            beside - alone
            for beside, alone in zip(self.relay_beside, self.relay_alone, strict=True)
        ]
        each = [spent * 1000 / (EVENTS * self.clients) for spent in fan_out]
        ingest = [beside - more for beside, more in zip(self.beside, fan_out, strict=True)]
        return [
            Figure(f"CPU of `up` a line at {self.rate:.0f} a second, alone", "ms", self.alone),
            Figure(f"beside {self.clients} clients", "ms", self.beside),
            Figure("the fan-out of a line, in a relay alone", "ms", fan_out),
            Figure("of that for each event and client", "µs", each),
            Figure("ingest beside clients / alone", "x", ratios(ingest, self.alone), at_most=1.1),
            Figure("all of `up` beside clients / alone", "x", ratios(self.beside, self.alone)),
        ]


async def measure_pipeline(
    clients: int, *, rounds: int, rate: float = 50.0, seconds: float = 8.0
) -> Pipeline:
    """Append `rate` lines a second for `seconds` in each of four ways, `rounds` times."""
    spent: dict[str, list[float]] = {name: [] for name in ("up", "up+", "relay", "relay+")}
    with real_folder() as root:
        async with _up(root) as up, _Relay.run() as relay:
            await up.lines(rate, 2.0)  # what is done once is done
            sources: dict[str, _Up | _Relay] = {"up": up, "relay": relay}
            for _, name in in_turns(list(spent), rounds):
                source = sources[name.rstrip("+")]
                there = distant_sinks(source.port, clients) if "+" in name else nullcontext()
                async with there:
                    spent[name].append(await source.lines(rate, seconds))
    return Pipeline(
        clients, rate, seconds, spent["up"], spent["up+"], spent["relay"], spent["relay+"]
    )


async def _paced(rate: float, seconds: float, act: Callable[[int], None]) -> int:
    """Call `act` so often a second, on time whatever earlier calls took; return how often."""
    loop, count = asyncio.get_running_loop(), int(rate * seconds)
    begun = loop.time()
    for number in range(count):
        await asyncio.sleep(begun + number / rate - loop.time())
        act(number)
    return count


class _Up:
    """`conv-realtime up`, its transcripts, and what it says of its queue."""

    def __init__(self, pid: int, facts: Mapping[str, Any], projects: Path) -> None:
        self.port = urlsplit(facts["ws"]).port or 0
        self._pid = pid
        self._health = f"{facts['viewer']}healthz"
        self._files = [(str(uuid4()), projects) for _ in range(FILES)]

    async def lines(self, rate: float, seconds: float) -> float:
        """Append; return the milliseconds of CPU a line, until everything is stored."""
        await self._stored()
        begun = process_cpu(self._pid)
        count = await _paced(rate, seconds, self._append)
        await self._stored()
        return (process_cpu(self._pid) - begun) / count * 1000

    def _append(self, number: int) -> None:
        session, projects = self._files[number % FILES]
        with (projects / f"{session}.jsonl").open("ab") as file:
            file.write(claude_line(f"{number} {TEXT}", session=session))

    async def _stored(self) -> None:
        async with asyncio.timeout(PATIENCE), httpx.AsyncClient() as http:
            while (await http.get(self._health)).json()["ingest"]["queue"]:  # noqa: ASYNC110
                await asyncio.sleep(0.2)


@asynccontextmanager
async def _up(root: Path) -> AsyncIterator[_Up]:
    projects = root / "projects" / "-bench"
    projects.mkdir(parents=True)
    with local_supabase() as (_, local):
        variables = {
            "SUPABASE_URL": local["supabase_url"],
            "SUPABASE_SECRET_KEY": local["secret_key"],
            "CONV_REALTIME_OWNER_ID": local["owner_id"],
            "CONV_REALTIME_STATE_DIR": str(root / "state"),
            "CONV_REALTIME_HEARTBEAT_SECONDS": "3600",  # the sinks answer no ping
        }
        with program("up", str(projects.parent), "--port", "0", variables=variables) as started:
            yield _Up(*started, projects)


class _Relay:
    """A relay in this process, which does nothing else while it is measured."""

    def __init__(self, served: Served) -> None:
        self.port = served.server.port
        self._served = served
        self._talk = conversation()

    @classmethod
    @asynccontextmanager
    async def run(cls) -> AsyncIterator[_Relay]:
        async with Served.run(QUIET, heartbeat_seconds=3600.0) as served:
            yield cls(served)

    async def lines(self, rate: float, seconds: float) -> float:
        """Publish what a line makes; return the milliseconds of CPU for it."""
        await asyncio.sleep(0)
        begun = time.process_time()
        count = await _paced(rate, seconds, self._say)
        return (time.process_time() - begun) / count * 1000

    def _say(self, number: int) -> None:
        self._served.feed.publish(created(message(TEXT, number, of=self._talk)))
        self._served.feed.publish(changed(conversation(revision=number + 2)))
