"""The relay of this package: `relay serve|switched|mounted|wrapped`.

* **serve**: as `conv-realtime serve` serves it
* **switched**: the same, and a line `apart` gives each frame a write of its own from then on,
  however many come in one turn of the loop; a line `joined` ends that
* **mounted**: in somebody's FastAPI application, under uvicorn with its defaults
* **wrapped**: the same behind a middleware that wraps `send`, so that the transport is out of reach

A line becomes a row that is new, and takes the whole way of one through the relay.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import uvloop
from fastapi import FastAPI
from starlette.applications import Starlette

from conv_realtime.cli.server import Server
from conv_realtime.core.log import Entry
from conv_realtime.edges.heap import collect_rarely
from conv_realtime.models import Change, Message
from conv_realtime.relay import LocalFeed, Relay
from tests.bench.servers import read_lines, say_ready
from tests.relay.host import Watching
from tests.relay.rows import message
from tests.relay.serving import serve, settings

APART, JOINED = b"apart", b"joined"
_TEXT = b'"text":"'


async def main(how: str) -> None:
    """Serve until the input ends."""
    feed = LocalFeed(settings())
    relay = Relay(feed=feed, settings=settings())
    numbers = count(1)
    template = message("")
    hub = relay.manager.hub
    if how in ("serve", "switched"):
        collect_rarely()  # as the command line does

    apart = False

    def write_at_once(_: Entry) -> None:
        if apart:
            hub.flush()

    if how == "switched":
        hub.appended.append(write_at_once)

    def publish(lines: list[bytes]) -> None:
        nonlocal apart
        if lines[0] in (APART, JOINED):
            apart = lines.pop(0) == APART
        feed.publish([Change(row, created=True) for row in map(row_of, lines)])

    def row_of(line: bytes) -> Message:
        text = line.partition(_TEXT)[2].partition(b'"')[0].decode()
        return template.model_copy(update={"text": text, "seq": next(numbers)})

    async with _served(relay, how) as port:
        say_ready(port)
        await read_lines(publish)


@asynccontextmanager
async def _served(relay: Relay, how: str) -> AsyncIterator[int]:
    if how in ("serve", "switched"):
        async with Server("127.0.0.1", 0) as server, relay:
            await server.start(Starlette(routes=relay.routes))
            yield int(server.address.rpartition(":")[2])
            await server.stop()
        return
    app = FastAPI(lifespan=relay.lifespan)
    app.router.routes.extend(relay.routes)
    async with serve(Watching(app) if how == "wrapped" else app) as served:
        yield served.port


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1]))
