"""Programs of the pages, run as far as some lines that they print."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette

from conv_realtime import testing
from conv_realtime.cli.server import Server
from conv_realtime.testing.bridging import TestBridge


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[TestBridge, str]]:
    """A bridge without a database, and the address of its server."""
    async with testing.bridge() as bridge, Server("127.0.0.1", 0) as server:
        await server.start(Starlette(routes=bridge.bridge.routes))
        yield bridge, server.address


async def until_lines(
    command: Sequence[str | Path], steps: Sequence[tuple[bytes, Callable[[], object]]]
) -> None:
    """Run a program; as each line comes that is waited for, do what belongs to it."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        async with asyncio.timeout(60):
            for wanted, then in steps:
                line = b""
                while line.strip() != wanted:
                    line = await process.stdout.readline()
                    assert line, (await process.stderr.read()).decode()
                then()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def done() -> None:
    """Nothing more: the line has come."""
