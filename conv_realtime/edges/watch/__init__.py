"""The file system's events: they wake, and what they may have missed is said plainly.

An event is only a hint that a path is worth a look, so little is asked of it. watchdog knows the
systems' ways; on Linux only its binding to inotify is used, which is read without a thread.

* `watcher`: what both are
* `inotify`, `kernel`, `folders`: Linux
* `observer`: other systems
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from conv_realtime.edges.watch.watcher import Wakeup, Watcher

__all__ = ["Wakeup", "Watcher", "watch"]


def watch(paths: Sequence[Path], *, optional: bool = False) -> Watcher:
    """Return what watches files and folders on this system.

    Args:
        paths: what to watch. What does not exist yet is taken up by a later `arm`.
        optional: whether nothing is wrong where some of them never exist.
    """
    if sys.platform == "linux":
        from conv_realtime.edges.watch.inotify import InotifyWatcher

        return InotifyWatcher(paths, optional=optional)
    from conv_realtime.edges.watch.observer import ObserverWatcher

    return ObserverWatcher(paths, optional=optional)
