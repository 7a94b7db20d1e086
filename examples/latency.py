"""How long a line of a transcript takes to its readers.

    python examples/latency.py

Runs `conv-realtime up` on a temporary state directory, appends 200 lines to new files below new
folders, and prints p50, p95 and p99 in milliseconds from just before the write until the line is
seen: on /ws, readable by supabase-py, on the conversation's private topic by supabase-py and by
@supabase/supabase-js (if Node.js and `npm ci` in tests/js are there), the last three with the
owner's token. The first line of each file is timed apart, and for the first two alone: it waits
for its folder to be watched and its conversation to be stored, before which nobody can join its
topic. Before all that it asks the disk alone, which no commit outruns. At the end another user's
token is tried, and must be refused.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from realtime import RealtimeSubscribeStates
from supabase import AsyncClient, acreate_client

from conv_realtime import Live, connect, conversation_id, message_id
from conv_realtime.testing import claude_line

MACHINE = "latency"
JS_CLIENT = Path(__file__).parent.parent / "tests" / "js" / "client.mjs"
PATIENCE_SECONDS = 15.0


WS, TABLE = "/ws", "readable by supabase-py"
NEW = {WS: "/ws, new file", TABLE: "readable by supabase-py, new file"}
PYTHON, JAVASCRIPT = "topic by supabase-py", "topic by supabase-js"


class Clock:
    """When each line was written, and how much later each reader saw it first (seconds)."""

    def __init__(self) -> None:
        self._written: dict[str, dict[str, float]] = {}
        self._seen: dict[str, dict[str, float]] = {}
        self._changed = asyncio.Event()

    def write(self, message: str, readers: Sequence[str]) -> None:
        """Start the time of a message's id for each of `readers`."""
        now = time.perf_counter()
        for reader in readers:
            self._written.setdefault(reader, {})[message] = now

    def see(self, reader: str, message: str) -> None:
        """Stop it for one reader."""
        written = self._written.get(reader, {}).get(message)
        if written is not None:
            self._seen.setdefault(reader, {}).setdefault(message, time.perf_counter() - written)
            self._changed.set()

    def pending(self, reader: str) -> list[str]:
        """Return the ids that `reader` has yet to see."""
        seen = self._seen.get(reader, {})
        return [message for message in self._written.get(reader, {}) if message not in seen]

    async def complete(self) -> None:
        """Wait until every reader has seen every line, or nothing new comes any more."""
        while any(self.pending(reader) for reader in self._written):
            self._changed.clear()
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                return

    def reports(self) -> list[dict[str, Any]]:
        """Return, for each reader, how many lines it saw and the percentiles in milliseconds."""
        return [self._report(reader) for reader in self._written]

    def _report(self, reader: str) -> dict[str, Any]:
        delays = sorted(self._seen.get(reader, {}).values())
        facts: dict[str, Any] = {
            "reader": reader,
            "seen": len(delays),
            "of": len(self._written[reader]),
        }
        return facts | percentiles(delays)


def percentiles(delays: list[float]) -> dict[str, float]:
    """Return p50, p95 and p99 in milliseconds of sorted seconds, nothing where there are none."""
    ranks = {
        percent: min(len(delays) - 1, len(delays) * percent // 100) for percent in (50, 95, 99)
    }
    return {f"p{p}_ms": round(delays[rank] * 1000, 1) for p, rank in ranks.items() if delays}


class Transcripts:
    """New files below new folders; the ids of what they say are known before they exist."""

    def __init__(self, root: Path, owner: str, files: int) -> None:
        self._root = root
        self._sessions = {
            session: conversation_id(owner, "claude_code", MACHINE, session)
            for session in (str(uuid4()) for _ in range(files))
        }

    @property
    def topics(self) -> list[str]:
        """The private topic of each conversation."""
        return [f"conv_realtime:conversation:{id}" for id in self._sessions.values()]

    async def append(self, clock: Clock, lines: int, rate: float, readers: Sequence[str]) -> None:
        """Append `lines` lines, `rate` a second, to each file in turn."""
        turns = itertools.cycle(self._sessions.items())
        for number, (session, conversation) in enumerate(itertools.islice(turns, lines)):
            uuid = str(uuid4())
            line = claude_line(f"line {number}", session=session, uuid=uuid)
            clock.write(str(message_id(conversation, uuid)), readers)
            append(self._root / session[:8] / "deeper" / f"{session}.jsonl", line)
            await asyncio.sleep(1 / rate)


def append(path: Path, line: bytes) -> None:
    """Append to a file, made with its folders if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(line)


async def measure_disk(folder: Path) -> dict[str, Any]:
    """Return how long the disk takes to keep 8 KB, by itself: no commit is faster."""
    delays = []
    sync = getattr(os, "fdatasync", os.fsync)  # Linux alone has both
    with (folder / "disk").open("wb") as file:
        for _ in range(100):
            file.write(bytes(8192))
            file.flush()
            begun = time.perf_counter()
            await asyncio.to_thread(sync, file.fileno())
            delays.append(time.perf_counter() - begun)
            await asyncio.sleep(0.02)
    return {"disk": "fdatasync of 8 KB", **percentiles(sorted(delays))}


# The readers -------------------------------------------------------------------------------


async def read_ws(clock: Clock, live: Live) -> None:
    """Follow /ws."""
    async for event in live:
        if event.type == "new_message":
            clock.see(NEW[WS], str(event.data.id))
            clock.see(WS, str(event.data.id))


async def read_table(clock: Clock, supabase: AsyncClient) -> None:
    """Ask the Data API for what is not there yet, again and again."""
    while True:
        if pending := clock.pending(NEW[TABLE]) + clock.pending(TABLE):
            query = supabase.table("messages").select("id").in_("id", pending[:50])
            rows: Any = (await query.execute()).data
            for row in rows:
                clock.see(NEW[TABLE], row["id"])
                clock.see(TABLE, row["id"])
        await asyncio.sleep(0.002)


async def join(supabase: AsyncClient, topic: str, on_message: Callable[[Any], None]) -> str:
    """Join a private topic; return the state of the subscription."""
    state: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def settle(status: RealtimeSubscribeStates, error: Exception | None) -> None:
        if not state.done():
            state.set_result(status.value)

    options: Any = {"config": {"private": True}}
    channel = supabase.channel(topic, options)
    channel.on_broadcast("new_message", on_message)
    await channel.subscribe(settle)
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await state


async def client_of(url: str, key: str, token: str) -> AsyncClient:
    """Return a supabase-py client that speaks as the user of `token`."""
    supabase = await acreate_client(url, key)
    supabase.postgrest.auth(token)
    await supabase.realtime.set_auth(token)
    return supabase


class JavaScript:
    """@supabase/supabase-js in a Node.js process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def listen(self, clock: Clock) -> None:
        """Take what the process says until it ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            elif said["event"] == "broadcast":
                clock.see(JAVASCRIPT, said["heard"]["payload"]["data"]["id"])

    async def join(self, topics: Sequence[str], user: str) -> None:
        """Join private topics with a user's token."""
        await self.ask("signIn", token=user)
        wanted = {"config": {"private": True}, "events": ["new_message"], "changes": []}
        for topic in topics:
            said = await self.ask("join", topic=topic, **wanted)
            assert said["ok"]["status"] == "SUBSCRIBED", said

    async def ask(self, do: str, **given: Any) -> Any:
        """Have the client do something; return its answer."""
        number = time.monotonic_ns()
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "do": do, **given}).encode() + b"\n")
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await answer


@asynccontextmanager
async def javascript(url: str, key: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the JavaScript client."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(JS_CLIENT),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "SUPABASE_URL": url,
            "SUPABASE_KEY": key,
            "SUPABASE_JS": "@supabase/supabase-js",
        },
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


# The run -----------------------------------------------------------------------------------


def local_environment() -> dict[str, str]:
    """Return the environment without a project of yours: what is measured is local."""
    ours = ("SUPABASE_", "CONV_REALTIME_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@asynccontextmanager
async def up(state: Path, transcripts: Path) -> AsyncIterator[dict[str, Any]]:
    """Run `conv-realtime up` on free ports; gives its ready line."""
    command = ["up", str(transcripts), "--json", "--port", "0", "--local-port", "0"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "conv_realtime", *command),
        *("--state-dir", str(state), "--machine", MACHINE),
        stdout=asyncio.subprocess.PIPE,
        env=local_environment(),
    )
    try:
        assert process.stdout is not None
        yield json.loads(await process.stdout.readline())
    finally:
        process.terminate()
        await process.wait()


async def token(state: Path, *options: str) -> str:
    """Return what `conv-realtime token` says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "conv_realtime", "token", "--state-dir", str(state), *options),
        stdout=asyncio.subprocess.PIPE,
        env=local_environment(),
    )
    out, _ = await process.communicate()
    return out.decode().strip()


async def measure(folder: Path, lines: int, files: int, rate: float) -> bool:
    """Run once and print; return whether nothing was missed and the stranger was refused."""
    root, state = folder / "projects", folder / "state"
    root.mkdir()
    clock, disk = Clock(), await measure_disk(folder)
    async with AsyncExitStack() as stack:
        ready = await stack.enter_async_context(up(state, root))
        url, key = ready["supabase_url"], ready["publishable_key"]
        supabase = await client_of(url, key, await token(state))
        stack.push_async_callback(supabase.realtime.close)
        transcripts = Transcripts(root, ready["owner_id"], files)
        # Entered, it is subscribed: what is written from here on is heard.
        live = await stack.enter_async_context(connect(ready["ws"]))
        await stack.enter_async_context(running(read_ws(clock, live)))
        await stack.enter_async_context(running(read_table(clock, supabase)))
        await transcripts.append(clock, files, rate, list(NEW.values()))
        await clock.complete()

        for topic in transcripts.topics:
            status = await join(
                supabase,
                topic,
                lambda said: clock.see(PYTHON, said["payload"]["data"]["id"]),
            )
            assert status == "SUBSCRIBED", f"{topic}: {status}"
        readers = [WS, TABLE, PYTHON]
        if shutil.which("node") and (JS_CLIENT.parent / "node_modules").is_dir():
            node = JavaScript(await stack.enter_async_context(javascript(url, key)))
            await stack.enter_async_context(running(node.listen(clock)))
            await node.join(transcripts.topics, await token(state))
            readers.append(JAVASCRIPT)
        await transcripts.append(clock, lines - files, rate, readers)
        await clock.complete()
        stranger = await token(state, "--sub", str(uuid4()))
        refused = await is_refused(url, key, stranger, transcripts.topics[0])
    reports = clock.reports()
    for facts in (*reports, disk):
        print(json.dumps(facts))
    print(json.dumps({"another_users_token": "refused" if refused else "ADMITTED"}))
    return refused and all(facts["seen"] == facts["of"] for facts in reports)


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` beside the body."""
    task = asyncio.create_task(work, name="reader")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def is_refused(url: str, key: str, other: str, topic: str) -> bool:
    """Return whether another user can neither read the table nor join the topic."""
    stranger = await client_of(url, key, other)
    rows = (await stranger.table("messages").select("id").limit(1).execute()).data
    status = await join(stranger, topic, lambda said: None)
    await stranger.realtime.close()
    return not rows and status != "SUBSCRIBED"


def main() -> None:
    """Read the options and run."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    options.add_argument("--lines", type=int, default=200)
    options.add_argument("--files", type=int, default=20)
    options.add_argument("--rate", type=float, default=10.0, help="lines a second")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="conv-realtime-latency-") as folder:
        # Open, so that under root too PostgreSQL can keep its data here, and it goes at the end.
        Path(folder).chmod(0o755)
        run = measure(Path(folder).resolve(), given.lines, given.files, given.rate)
        sys.exit(0 if asyncio.run(run) else 1)


if __name__ == "__main__":
    main()
