"""Plays flows on one local Supabase and judges each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from conv_realtime.local import LocalSupabase
from tests.local.replay.captures import Capture, names, read
from tests.local.replay.differences import Verdict, judge, recorded_for
from tests.local.replay.flows import FLOWS, NOT_PLAYED, Flow
from tests.local.replay.player import Player
from tests.local.replay.project import project, server


@dataclass(frozen=True)
class Played:
    """A capture that was played, or the reason why it was not."""

    name: str
    verdict: Verdict | None
    why_not: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing differs but what is recorded."""
        return self.verdict is None or self.verdict.good

    def __str__(self) -> str:
        """One line if all is well, else the differences below it."""
        if self.verdict is None:
            return f"{self.name}: not played: {self.why_not}"
        if self.verdict.good:
            return f"{self.name}: {'; '.join(map(str, self.verdict.recorded)) or 'equal'}"
        lines = [f"{self.name}: DIFFERENT"]
        lines += [f"  {gap}" for gap in self.verdict.new]
        lines += [f"  recorded, but it no longer comes: {one}" for one in self.verdict.stale]
        return "\n".join(lines)


def chosen(folder: Path, flows: Sequence[str]) -> list[Capture]:
    """Reads the captures of the flows, of all where none is named.

    Raises:
        ValueError: there is no capture of a flow.
    """
    captures = [read(folder / f"{name}.jsonl") for name in names(folder)]
    known = {name for capture in captures for name in (capture.name, capture.flow)}
    if unknown := sorted(set(flows) - known):
        raise ValueError(f"no capture of {', '.join(unknown)} in {folder}")
    return [one for one in captures if not flows or one.name in flows or one.flow in flows]


async def play_all(captures: Sequence[Capture], tell: Callable[[Played], object]) -> None:
    """Starts a local Supabase and plays the captures on it.

    They share tables and topics, so one is played after the other, except those that only wait.

    Args:
        captures: what to play.
        tell: called with each when it is over.
    """

    async def one(capture: Capture) -> None:
        tell(Played(capture.name, await play(local, capture)))

    async with project() as local, asyncio.TaskGroup() as group:
        for capture in captures:
            if FLOWS.get(capture.flow, Flow()).apart:
                group.create_task(one(capture), name=f"replay.{capture.name}")
        for capture in captures:
            why_not = NOT_PLAYED.get(capture.flow)
            if why_not is not None:
                tell(Played(capture.name, None, why_not))
            elif not FLOWS.get(capture.flow, Flow()).apart:
                await one(capture)


async def play(local: LocalSupabase, capture: Capture) -> Verdict:
    """Plays one capture."""
    flow = FLOWS.get(capture.flow, Flow())
    recorded = recorded_for(capture.name, capture.flow)
    complete = not any(one.real for one in recorded)
    async with server(local, flow.rules) as opened:
        await opened.watch_as(capture.tokens())
        gaps = await Player(opened, capture, flow, complete=complete).play()
    return judge(gaps, recorded)
