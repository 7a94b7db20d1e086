"""What several tests of ingest ask for."""

from __future__ import annotations

import sys

import pytest

from conv_realtime.edges.watch.observer import ObserverWatcher


@pytest.fixture(params=["inotify", "watchdog"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to watch: Linux's own, and that of other systems, which serves here as well."""
    if request.param == "watchdog":
        monkeypatch.setattr("conv_realtime.ingest.river.watch", ObserverWatcher)
    elif sys.platform != "linux":
        pytest.skip("is about inotify")
