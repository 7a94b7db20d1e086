"""Plays days: `python -m tests.simulator --seeds 1000 --kills 100`, or `--seed 17 [--kill]` again.

Days go to as many processes as there are cores, each with a PostgreSQL of its own. What became of
each is a line of the log; a day that has one is not played again, so a run that was ended goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from conv_realtime.testing import SupabaseServer
from tests.simulator.play import play, told
from tests.simulator.script import Action, script

Kind = tuple[int, bool]
"""A seed, and whether it is a day of kills."""

_TRIES = 60


def main() -> int:
    """Play what is asked for; 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seeds", type=int, default=0, help="how many days")
    parser.add_argument("--kills", type=int, default=0, help="how many days of kill -9")
    parser.add_argument("--seed", type=int, help="this day alone")
    parser.add_argument("--kill", action="store_true", help="as a day of kill -9")
    parser.add_argument("--shrink", action="store_true", help="leave actions out while it fails")
    parser.add_argument("--verbose", action="store_true", help="show what happens when")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--log", type=Path, default=Path("simulator.jsonl"))
    parser.add_argument("--share", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    level = logging.DEBUG if asked.verbose else logging.CRITICAL
    logging.basicConfig(format="%(relativeCreated)d %(name)s %(message)s", level=logging.CRITICAL)
    logging.getLogger("conv_realtime").setLevel(level)
    if asked.seed is not None:
        return _one(asked.seed, kill=asked.kill, shrink=asked.shrink)
    kinds = [(seed, False) for seed in range(asked.seeds)]
    kinds += [(seed, True) for seed in range(asked.kills)]
    if asked.share is not None:
        _play_share(kinds[asked.share :: asked.jobs], asked.log)
        return 0
    command = [sys.executable, "-m", "tests.simulator", *sys.argv[1:], "--share"]
    shares = [subprocess.Popen([*command, str(number)]) for number in range(asked.jobs)]
    for number, share in enumerate(shares):
        if share.wait():
            print(f"the process of share {number} ended with {share.returncode}")
    return _sum_up(kinds, asked.log)


def _one(seed: int, *, kill: bool, shrink: bool) -> int:
    actions = script(seed, kill=kill)
    with SupabaseServer() as server:
        report = play(server, seed, actions, kill=kill)
        if report.wrong and shrink:
            report.actions = _shrunk(server, seed, actions, kill=kill)
    print(told(report) if report.wrong else f"all as it should be, in {report.seconds:.1f} s")
    return 1 if report.wrong else 0


def _shrunk(
    server: SupabaseServer, seed: int, actions: Sequence[Action], *, kill: bool
) -> list[Action]:
    """Leave out ever smaller pieces as long as something is wrong without them."""
    kept, size, tries = list(actions), len(actions) // 2, 0
    while size and tries < _TRIES:
        at = 0
        while at < len(kept) and tries < _TRIES:
            fewer = kept[:at] + kept[at + size :]
            tries += 1
            if fewer and play(server, seed, fewer, kill=kill).wrong:
                kept = fewer
            else:
                at += size
        size //= 2
    return kept


def _play_share(kinds: Sequence[Kind], log: Path) -> None:
    done = {(line["seed"], line["kill"]) for line in _lines(log)}
    with SupabaseServer() as server:
        for seed, kill in kinds:
            if (seed, kill) in done:
                continue
            report = play(server, seed, script(seed, kill=kill), kill=kill)
            line = {
                "seed": seed,
                "kill": kill,
                "seconds": round(report.seconds, 2),
                "injected": report.injected,
                "wrong": report.wrong,
            }
            with log.open("a") as file:
                file.write(json.dumps(line) + "\n")
            if report.wrong:
                print(told(report), flush=True)


def _lines(log: Path) -> Iterator[dict[str, Any]]:
    if log.exists():
        yield from map(json.loads, log.read_text().splitlines())


def _sum_up(kinds: Sequence[Kind], log: Path) -> int:
    wanted = set(kinds)
    injected: Counter[str] = Counter()
    played = [line for line in _lines(log) if (line["seed"], line["kill"]) in wanted]
    for line in played:
        injected.update(line["injected"])
    for name, count in sorted(injected.items(), key=lambda one: -one[1]):
        print(f"{count:>8} {name}")
    wrong = [line for line in played if line["wrong"]]
    seconds = sum(line["seconds"] for line in played)
    print(f"{len(played)} of {len(wanted)} days played, {seconds:.0f} s together")
    print(f"{len(wrong)} wrong: {[(line['seed'], line['kill']) for line in wrong]}")
    return 1 if wrong or len(played) < len(wanted) else 0


if __name__ == "__main__":
    sys.exit(main())
