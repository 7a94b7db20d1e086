"""A relay in a process of its own, which counts what it holds.

    python -m tests.bench.relay_load.server

says its port, then answers each line of its input with one of JSON: `say` publishes an event,
`count` waits until every client has gone and says what is left.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from tests.bench.relay_load.figures import TEXT
from tests.relay.rows import created, message
from tests.relay.serving import Served, eventually

PATIENCE = 60.0


@dataclass(frozen=True)
class Held:
    """What a process holds: memory in KB, file descriptors, tasks, objects, blocks of memory."""

    rss_kb: int
    descriptors: int
    tasks: int
    objects: int
    blocks: int

    @classmethod
    def here(cls) -> Self:
        """Count in this process, after garbage has gone."""
        for _ in range(3):
            gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            rss_kb=pages * os.sysconf("SC_PAGE_SIZE") // 1024,
            descriptors=len(os.listdir("/proc/self/fd")),
            tasks=len(asyncio.all_tasks()),
            objects=len(gc.get_objects()),
            blocks=sys.getallocatedblocks(),
        )


class Child:
    """The server, from outside."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port

    async def ask(self, what: str) -> Any:
        """Have a line answered."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n".encode())
        return await _answer(self._process)

    async def held(self) -> Held:
        """Return what it holds once everybody has gone."""
        return Held(**await self.ask("count"))

    @classmethod
    @asynccontextmanager
    async def run(cls) -> AsyncIterator[Self]:
        """Serve until left."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        try:
            yield cls(process, await _answer(process))
        finally:
            process.stdin.close()  # it ends when its input does
            await process.wait()


async def _answer(process: asyncio.subprocess.Process) -> Any:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        line = await process.stdout.readline()
    assert line, "the server has ended"
    return json.loads(line)


async def _count(served: Served) -> dict[str, int]:
    state = served.server.server.server_state
    await eventually(lambda: not state.connections and not state.tasks, "all have gone")
    log = served.relay.manager.hub.log
    served.feed.publish(created(*[message(TEXT)] * 200))
    while log._first != log._offset:  # old entries go together: until they just went
        served.feed.publish(created(message(TEXT)))
    return asdict(Held.here())


async def _main() -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with Served.run(replay_events=100) as served:
        print(served.server.port, flush=True)
        async for line in lines:
            if line == b"count\n":
                print(json.dumps(await _count(served)), flush=True)
            else:
                served.feed.publish(created(message(TEXT)))
                print("null", flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
