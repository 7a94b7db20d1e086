"""Ingest that is cancelled leaves nothing behind that works on what is closed then."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import pytest
from watchdog.utils import BaseThread

from conv_realtime import Head, Ingest, JsonLines, Said
from conv_realtime.background import on_thread
from conv_realtime.core.format import Claim
from conv_realtime.edges.watch.observer import ObserverWatcher
from conv_realtime.testing import OWNER, MemoryStore

_A_MOMENT = 0.2


class _Thoughtful(JsonLines):
    """Takes a moment to say whose a file is."""

    source, title, suffix = "thoughtful", "Thoughtful", ".thoughts"

    def __init__(self) -> None:
        self.asked, self.told = threading.Event(), threading.Event()

    def claim(self, path: PurePath, head: Head) -> Claim:
        self.asked.set()
        time.sleep(_A_MOMENT)
        self.told.set()
        return super().claim(path, head)

    def session(self, path: PurePath, records: Sequence[Mapping[str, Any]]) -> str | None:
        return path.stem

    def said(self, fields: Mapping[str, Any]) -> Said | None:
        return Said("user", fields["says"])


async def test_who_is_cancelled_while_files_are_recognised_waits_for_the_thread(
    tmp_path: Path,
) -> None:
    """It asks the state file, too: closing that meanwhile ended the process."""
    (tmp_path / "one.thoughts").write_bytes(b'{"says": "hm"}\n')
    form = _Thoughtful()
    settings: dict[str, Any] = {"state_dir": tmp_path / "state", "owner_id": OWNER, "machine": "m"}
    async with Ingest(store=MemoryStore(), formats=[form], paths=[tmp_path], **settings) as ingest:
        running = asyncio.create_task(ingest.run())
        assert await asyncio.to_thread(form.asked.wait, 10)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert form.told.is_set()


async def test_watching_that_is_cancelled_as_it_begins_leaves_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of watchdog's, where there is no inotify: nobody leaves what was not entered."""
    began, schedule = threading.Event(), ObserverWatcher._schedule

    def slowly(watcher: ObserverWatcher) -> None:
        began.set()
        time.sleep(_A_MOMENT)
        schedule(watcher)

    monkeypatch.setattr(ObserverWatcher, "_schedule", slowly)
    before = set(threading.enumerate())

    async def watch() -> None:
        async with ObserverWatcher([tmp_path]):
            pass

    watching = asyncio.create_task(watch())
    assert await asyncio.to_thread(began.wait, 10)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if isinstance(thread, BaseThread)]


async def test_a_thread_is_waited_for_however_often_one_is_cancelled() -> None:
    """And what it raises then is nobody's any more."""
    began, ended = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        time.sleep(_A_MOMENT)
        ended.set()
        raise ValueError("too late")

    working = asyncio.create_task(on_thread(work))
    assert await asyncio.to_thread(began.wait, 10)
    for _ in range(3):
        working.cancel()
        await asyncio.sleep(_A_MOMENT / 10)
    with pytest.raises(asyncio.CancelledError):
        await working
    assert ended.is_set()
