"""What tutorials show: FastAPI, and a task per client and message."""

from __future__ import annotations

import asyncio

import uvloop
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from tests.bench.servers import read_lines, say_ready
from tests.relay.serving import serve

app = FastAPI()
connected: list[WebSocket] = []


@app.websocket("/ws")
async def ws(websocket: WebSocket) -> None:
    """Hold a client until it goes."""
    await websocket.accept()
    connected.append(websocket)
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        connected.remove(websocket)


async def main() -> None:
    """Serve until the input ends."""
    queue: asyncio.Queue[bytes] = asyncio.Queue()

    def take(lines: list[bytes]) -> None:
        for line in lines:
            queue.put_nowait(line)

    async def broadcast() -> None:
        while True:
            text = (await queue.get()).decode()
            await asyncio.gather(*(websocket.send_text(text) for websocket in connected))

    async with serve(app) as served:
        broadcasting = asyncio.create_task(broadcast(), name="broadcast")
        say_ready(served.port)
        await read_lines(take)
        broadcasting.cancel()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
