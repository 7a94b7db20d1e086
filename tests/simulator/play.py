"""Plays days at a Supabase, each with a database and a folder of its own."""

from __future__ import annotations

import asyncio
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from conv_realtime.testing import SupabaseServer
from tests.clients.javascript import NODE_20
from tests.node import NodeProgram
from tests.simulator.day import Day, Report, WrongError
from tests.simulator.processes import impatience
from tests.simulator.script import Action


def play(
    server: SupabaseServer,
    seed: int,
    actions: Sequence[Action],
    *,
    kill: bool = False,
    javascript: bool = False,
) -> Report:
    """Play one day; its report says what was wrong.

    Args:
        server: where it gets a database of its own.
        seed: for the report.
        actions: what happens.
        kill: whether the bridge is a process of its own, which can be killed.
        javascript: whether a client in Node.js follows, too.
    """
    report = Report(seed, kill, list(actions))
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="simulator-") as folder, impatience():
        asyncio.run(_play(server, Path(folder).resolve(), report, javascript=javascript))
    report.seconds = time.monotonic() - begun
    return report


async def _play(server: SupabaseServer, folder: Path, report: Report, *, javascript: bool) -> None:
    async with server.project() as supabase, _node(javascript) as ask:
        try:
            await Day(supabase, folder, report).live(ask)
        except WrongError as error:
            report.wrong.append(str(error))
        except Exception:
            report.wrong.append(traceback.format_exc())


@asynccontextmanager
async def _node(wanted: bool) -> AsyncIterator[Callable[..., Any] | None]:
    if not wanted:
        yield None
        return
    async with NodeProgram.run("shipped.mjs", SUPABASE_JS=NODE_20.package) as program:
        yield program.do


def told(report: Report) -> str:
    """Return what was wrong, what happened before, and the command that does it again."""
    kill = " --kill" if report.kill else ""
    return "\n".join(
        [
            *report.wrong,
            f"again: python -m tests.simulator --seed {report.seed}{kill}",
            *map(repr, report.actions),
        ]
    )
