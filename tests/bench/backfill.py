"""How fast history gets into the local Supabase, beside what the requests alone cost.

The same transcripts three ways, each under an owner of its own, in turns: `Ingest.backfill`; the
same rows, made and encoded beforehand, posted with as many requests at a time and nothing else; and
one request a message with supabase-py, as a program does that writes each line when it comes
(of some of the files, since it takes long). Then the first two with short transcripts, as most are.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
from supabase import acreate_client

from conv_realtime import Ingest, Settings, testing
from conv_realtime.core.formats.claude_code import ClaudeCode
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.edges.disk import OpenFile
from conv_realtime.edges.heap import collect_rarely
from conv_realtime.ingest.batches import Batch
from conv_realtime.ingest.follow import Follower
from conv_realtime.ingest.rows import Identity
from conv_realtime.models import Row
from tests.bench.harness import Figure, Finding, Scale, benchmark, in_turns, ratios
from tests.bench.local_realtime import children, server
from tests.bench.rig import cpu_seconds, waiting_seconds

MACHINE = "bench"
ONE_AT_A_TIME = 500
WORDS = [f"word{number:03}" for number in range(400)]


def write_transcripts(folder: Path, files: int, messages: int) -> list[Path]:
    """Writes old transcripts of prompts and answers, about a kilobyte a line."""
    draw = random.Random(files * messages)
    begun = datetime(2025, 1, 1, tzinfo=UTC)
    paths = []
    for number in range(files):
        session = str(UUID(int=draw.getrandbits(128), version=4))
        path = folder / f"project-{number % 7}" / f"{session}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for place in range(messages):
                text = " ".join(draw.choices(WORDS, k=draw.randint(10, 180)))
                at = (begun + timedelta(seconds=place)).isoformat().replace("+00:00", "Z")
                role = "assistant" if place % 2 else "user"
                line = testing.claude_line(text, role, session=session, timestamp=at)
                file.write(line)
        paths.append(path)
    return paths


@dataclass(frozen=True, slots=True)
class Target:
    """The local Supabase: its URL, its secret key, its process."""

    url: str
    key: str
    pid: int

    @property
    def headers(self) -> dict[str, str]:
        """What a request needs to write history."""
        return {
            "apikey": self.key,
            "Authorization": f"Bearer {self.key}",
            "Content-Type": "application/json",
            "Prefer": "resolution=merge-duplicates,return=minimal",
            "x-conv-realtime-history": "1",
        }


class Taken:
    """What a way to write history took, round by round, and whose CPU that was."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.waiting: list[float] = []
        self.shares: dict[str, list[float]] = {
            "who sends": [], "the local Supabase": [], "PostgreSQL": []
        }  # fmt: skip

    @property
    def cpu(self) -> list[float]:
        """Seconds of CPU in all."""
        return [sum(shares) for shares in zip(*self.shares.values(), strict=True)]

    async def add(self, target: Target, work: Coroutine[Any, Any, float]) -> None:
        """Do it once, and count it."""
        before, waited = _spent(target), waiting_seconds()
        self.seconds.append(await work)
        self.waiting.append(waiting_seconds() - waited)
        for share, now, then in zip(self.shares.values(), _spent(target), before, strict=True):
            share.append(now - then)

    def figures(self, what: str) -> Iterator[Figure]:
        """Yield what it took, and the least time in which all cores could have done it."""
        yield Figure(what, "s", self.seconds)
        for whose, share in self.shares.items():
            yield Figure(f"  CPU of {whose}", "s", share)
        yield Figure("  who sends would run, and waits for a core", "s", self.waiting)
        cores = os.cpu_count() or 1
        yield Figure(f"  all of it / {cores} cores", "s", [one / cores for one in self.cpu])


def _spent(target: Target) -> tuple[float, float, float]:
    """Give the seconds of CPU of this process, of the local Supabase and of those below it."""
    database = sum(cpu_seconds(pid) for pid in children(target.pid))
    return time.process_time(), cpu_seconds(target.pid), database


def settings_of(target: Target, owner: UUID, state: Path) -> Settings:
    """Gives the settings of a backfill for `owner`."""
    return Settings.load(
        supabase_url=target.url,
        supabase_key=target.key,
        owner_id=owner,
        machine=MACHINE,
        state_dir=state,
    )


async def backfill(target: Target, paths: Sequence[Path]) -> float:
    """Gives the seconds that the library takes, from its start."""
    with tempfile.TemporaryDirectory() as state:
        begun = time.perf_counter()
        async with Ingest(settings=settings_of(target, uuid4(), Path(state))) as ingest:
            summary = await ingest.backfill(paths)
        took = time.perf_counter() - begun
    assert summary.messages == summary.changed - summary.files - len({p.parent for p in paths}) or (
        summary.messages
    ), summary
    return took


def prepare(paths: Sequence[Path], owner: UUID) -> list[list[tuple[str, bytes]]]:
    """Gives the requests of each file, table and body, as the library would make them."""
    identity, sanitizer, files = Identity(owner, MACHINE), Sanitizer(), []
    defaults = Settings.load(supabase_url="http://127.0.0.1", owner_id=owner)
    for path in paths:
        follower = Follower(str(path), ClaudeCode(), identity, sanitizer)
        requests: list[tuple[str, bytes]] = []
        with OpenFile(str(path)) as file:
            while follower.read(file):
                pass
            while batch := follower.next_batch(
                follower.sent, file, defaults.batch_rows, defaults.batch_bytes
            ):
                follower.advance(follower.sent, batch)
                requests += _bodies(batch)
        files.append(requests)
    return files


def _bodies(batch: Batch) -> list[tuple[str, bytes]]:
    groups: list[tuple[str, Sequence[Row]]] = [
        ("projects", batch.projects),
        ("conversations", batch.stubs),
        ("messages", batch.messages),
        ("conversations", batch.totals),
    ]
    return [(table, orjson.dumps([row.to_row() for row in rows])) for table, rows in groups if rows]


async def post(target: Target, files: list[list[tuple[str, bytes]]], at_a_time: int) -> float:
    """Gives the seconds that the requests take, so many files at a time."""
    waiting = list(files)

    async def work(http: httpx.AsyncClient) -> None:
        while waiting:
            for table, body in waiting.pop():
                query = {"on_conflict": "id,owner_id"}
                answer = await http.post(f"/rest/v1/{table}", params=query, content=body)
                answer.raise_for_status()

    begun = time.perf_counter()
    async with (
        httpx.AsyncClient(base_url=target.url, headers=target.headers, timeout=60) as http,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(at_a_time):
            group.create_task(work(http))
    return time.perf_counter() - begun


async def one_at_a_time(target: Target, files: list[list[tuple[str, bytes]]]) -> float:
    """Gives the seconds for each message, written by a request of its own."""
    client = await acreate_client(target.url, target.key)
    written, took = 0, 0.0
    for requests in files:
        for table, body in requests:
            rows: list[dict[str, Any]] = orjson.loads(body)
            if table != "messages":
                await client.table(table).upsert(rows, on_conflict="id,owner_id").execute()
                continue
            for row in rows:
                if written >= ONE_AT_A_TIME:
                    return took / written
                begun = time.perf_counter()
                await client.table(table).upsert(row, on_conflict="id,owner_id").execute()
                took += time.perf_counter() - begun
                written += 1
    return took / written


@asynccontextmanager
async def supabase() -> AsyncIterator[Target]:
    """Runs a local Supabase in a process of its own."""
    with server() as (pid, said):
        yield Target(said["supabase_url"], said["secret_key"], pid)


async def _both(target: Target, paths: Sequence[Path], rounds: int) -> tuple[Taken, Taken]:
    """Gives what the library takes, and posting the same rows alone, measured in turns."""
    library, alone = Taken(), Taken()
    for _, ours in in_turns((True, False), rounds):
        if ours:
            await library.add(target, backfill(target, paths))
        else:
            prepared = prepare(paths, uuid4())
            await alone.add(target, post(target, prepared, 4))
    return library, alone


async def measure(files: int, messages: int, rounds: int) -> list[Figure]:
    """Measures long transcripts."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_transcripts(Path(folder), files, messages)
        size = sum(path.stat().st_size for path in paths)
        async with supabase() as target:
            library, alone = await _both(target, paths, rounds)
            single = [
                await one_at_a_time(target, prepare(paths[:2], uuid4())) for _ in range(rounds)
            ]
    count = files * messages
    each = [one * count for one in single]
    return [
        *library.figures(f"{count:,} messages, {size / 1e6:.0f} MB: backfill"),
        *alone.figures("posting the same rows, alone"),
        Figure("messages", "a second", [count / took for took in library.seconds], at_least=8000),
        Figure("backfill / posting alone", "x", ratios(library.seconds, alone.seconds), 1.5),
        Figure("CPU of all of it, backfill / posting alone", "x", ratios(library.cpu, alone.cpu)),
        Figure("one request a message / backfill", "x", ratios(each, library.seconds), at_least=20),
    ]


async def measure_short(files: int, messages: int, rounds: int) -> list[Figure]:
    """Measures short transcripts: the rows of each are less than a request takes."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_transcripts(Path(folder), files, messages)
        async with supabase() as target:
            library, alone = await _both(target, paths, rounds)
    count = files * messages
    return [
        *library.figures(f"{count:,} messages in {files} files: backfill"),
        *alone.figures("posting the rows of each file, alone"),
        Figure("messages of short files", "a second", [count / took for took in library.seconds]),
        Figure(
            "short files, backfill / posting each alone", "x",
            ratios(library.seconds, alone.seconds),
        ),
    ]  # fmt: skip


@benchmark("backfill")
def backfilling(scale: Scale) -> Iterator[Finding]:
    """History into the local Supabase, beside what the requests alone cost."""
    collect_rarely()  # as the command line does
    yield from asyncio.run(measure(*scale.pick((40, 1000, 3), (10, 500, 3), (2, 10, 1))))
    yield from asyncio.run(measure_short(*scale.pick((400, 20, 3), (100, 20, 3), (4, 5, 1))))
