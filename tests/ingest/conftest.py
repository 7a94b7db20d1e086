"""What several tests of ingest ask for."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conv_realtime.edges.watch.observer import ObserverWatcher


@pytest.fixture(params=["inotify", "watchdog"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to watch: Linux's own, and that of other systems, which serves here as well."""
    if request.param == "watchdog":
        monkeypatch.setattr("conv_realtime.ingest.river.watch", ObserverWatcher)
    elif sys.platform != "linux":
        pytest.skip("is about inotify")


@pytest.fixture
def close(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Closes a folder: it cannot be listed, by root neither."""
    scandir = os.scandir
    closed: set[str] = set()

    def refusing(folder: str) -> object:
        if folder in closed:
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    return lambda folder: closed.add(str(folder))
