"""What the viewer's page does while messages arrive by thousands, in Chromium.

`conv-realtime up` reads a file that grows; the page follows it. The page itself notes, at every
frame, how long it was since the last one, and the browser how long scripts held it up.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from conv_realtime.testing import claude_line
from tests.bench.harness import CannotRun, Figure, Finding, Scale, benchmark, p95
from tests.bench.pipeline import running
from tests.browser import CHROMIUM, Page, browser, open_page

BURST_SECONDS = 0.1
PARAGRAPH = "The reason is in `store.py`: **a position moves** only behind an acknowledgement.\n"
CODE = "```python\nfor batch in batches:\n    await store.write(batch)\n```\n"

WATCH = """
    window.frames_ms = [];
    window.held_ms = [];
    new PerformanceObserver((list) => {
      for (const task of list.getEntries()) window.held_ms.push(task.duration);
    }).observe({ entryTypes: ["longtask"] });
    let last = performance.now();
    requestAnimationFrame(function frame(now) {
      window.frames_ms.push(now - last);
      last = now;
      requestAnimationFrame(frame);
    });
"""
SHOWN = "document.querySelectorAll('#messages li').length"
SCROLL = """
    new Promise((done) => {
      const pane = document.getElementById("scroll");
      let steps = 300;
      requestAnimationFrame(function step() {
        pane.scrollTop = (pane.scrollHeight * --steps) / 300;
        if (steps) requestAnimationFrame(step); else done(pane.scrollTop);
      });
    })
"""


@benchmark("viewer")
def viewer(scale: Scale) -> Iterator[Finding]:
    """What messages that arrive by thousands do to the viewer's page in Chromium."""
    if CHROMIUM is None:
        raise CannotRun("Chromium is not here")
    count = scale.pick(10_000, 2_000, 60)
    with tempfile.TemporaryDirectory(prefix="conv_realtime-bench-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL may run as another account
        transcripts = Path(folder, "projects", "-bench").resolve()
        transcripts.mkdir(parents=True)
        with running(transcripts, Path(folder, "state")) as port:
            yield from asyncio.run(_look(port, transcripts, count))


async def _look(port: int, transcripts: Path, count: int) -> list[Finding]:
    found: list[Finding] = []
    session = str(uuid4())
    async with browser() as connection:
        page = await open_page(connection, f"http://127.0.0.1:{port}/")
        await page.until("document.getElementById('state').textContent === 'live'")
        await page.value(WATCH)
        with (transcripts / f"{session}.jsonl").open("ab", buffering=0) as file:
            behind = await _grow(page, file.write, session, count)
        found.append(Figure(f"{count:,} messages at 500 a second: the last one shown after", "ms",
            [behind * 1000]))  # fmt: skip
        found += await _smoothness(page, "while they arrive")
        used = await page.call("Runtime.getHeapUsage")
        found.append(Figure("memory of its scripts", "MB", [used["usedSize"] / 1e6]))
        await page.call("Runtime.evaluate", expression=SCROLL, awaitPromise=True)
        found += await _smoothness(page, "scrolled from end to end in 300 frames")
        assert page.complaints == []
    return found


async def _grow(page: Page, write: Any, session: str, count: int) -> float:
    """Append messages; return the seconds from the last one to its picture."""
    burst = 50
    due = time.monotonic()
    for first in range(0, count, burst):
        write(
            b"".join(_line(number, session) for number in range(first, min(first + burst, count)))
        )
        due += BURST_SECONDS
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    ended = time.monotonic()
    await page.until(f"{SHOWN} === {count}")
    return time.monotonic() - ended


def _line(number: int, session: str) -> bytes:
    role = "assistant" if number % 2 else "user"
    text = f"{number}: {PARAGRAPH * (number % 4)}{CODE if number % 5 == 0 else ''}"
    return claude_line(text, role, session=session)


async def _smoothness(page: Page, when: str) -> list[Figure]:
    told = await page.value(
        "JSON.stringify([window.frames_ms.splice(0), window.held_ms.splice(0)])"
    )
    frames, held = json.loads(told)
    return [
        Figure(f"{when}: frame to frame, p95", "ms", [p95(frames)]),
        Figure("longest without a frame", "ms", [max(frames)]),
        Figure("held up for more than 50 ms by scripts", "times", [len(held)]),
    ]
