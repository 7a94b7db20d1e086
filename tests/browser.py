"""Chromium, driven over the DevTools protocol."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
WITHIN = 30.0

needs_chromium = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]


class Page:
    """A tab: evaluates JavaScript and remembers what went wrong in it."""

    def __init__(self, connection: ClientConnection, session: str) -> None:
        self._connection = connection
        self._session = session
        self._numbers = itertools.count(1000)
        self.complaints: list[Any] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        number = next(self._numbers)
        command = {"id": number, "method": method, "params": parameters}
        await self._connection.send(json.dumps({**command, "sessionId": self._session}))
        while True:
            said = json.loads(await self._connection.recv())
            if said.get("id") == number:
                assert "error" not in said, said
                result: dict[str, Any] = said["result"]
                return result
            if said.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(said["params"])

    async def value(self, expression: str) -> Any:
        """Return what an expression gives."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return result["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        async with asyncio.timeout(WITHIN):
            while True:
                if await self.value(expression):
                    return
                await asyncio.sleep(0.05)


@asynccontextmanager
async def browser() -> AsyncIterator[ClientConnection]:
    """Run Chromium without a window; gives its DevTools connection."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"),
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            assert process.stderr is not None
            async with asyncio.timeout(WITHIN):
                while True:
                    line = (await process.stderr.readline()).decode()
                    if found := re.search(r"ws://\S+", line):
                        break
                    assert line, "Chromium ended"
            async with websockets.connect(found.group(), max_size=None) as connection:
                yield connection
        finally:
            process.kill()
            # Its helpers hold the pipe a moment longer: read to the end, or it is never closed.
            await process.communicate()


async def open_page(connection: ClientConnection, url: str) -> Page:
    """Open a tab."""

    async def call(number: int, method: str, **parameters: Any) -> dict[str, Any]:
        await connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (said := json.loads(await connection.recv())).get("id") != number:
            pass
        result: dict[str, Any] = said["result"]
        return result

    target = (await call(1, "Target.createTarget", url="about:blank"))["targetId"]
    attached = await call(2, "Target.attachToTarget", targetId=target, flatten=True)
    page = Page(connection, attached["sessionId"])
    for domain in ("Runtime", "Log", "Page"):
        await page.call(f"{domain}.enable")
    await page.call("Page.navigate", url=url)
    return page
