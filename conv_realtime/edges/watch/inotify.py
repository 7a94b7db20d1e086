"""watchdog on Linux without its two losses: overflow in silence, and a stall after a move.

On overflow watchdog 7.1 removes all watches and registers them again, which overflows once
more in a large tree, and tells its handlers nothing. Here watches stay, folders that are new
are added, and the owner is told. A file moved out of the tree holds back every later event by
half a second; here by 20 ms.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from watchdog.observers.api import DEFAULT_OBSERVER_TIMEOUT, BaseObserver

if TYPE_CHECKING or sys.platform.startswith("linux"):
    from watchdog.observers.inotify import InotifyEmitter, InotifyWatchGroup
    from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper

    class _Grouper(InotifyMoveEventGrouper):
        delay = 0.02

    class _WatchGroup(InotifyWatchGroup):
        overflowed: Callable[[], None] = staticmethod(lambda: None)

        def __post_init__(self) -> None:
            self._move_event_grouper = _Grouper()
            super().__post_init__()

        def on_queue_overflow(self) -> None:
            with self._lock:
                if not self.is_active:
                    return
                self._watch_new_folders()
            self.overflowed()

        def _watch_new_folders(self) -> None:
            if not self.is_recursive:
                return
            for folder, names, _ in os.walk(self.path):
                for name in names:
                    path = os.path.join(folder, name)
                    if path not in self._active_callbacks_by_path and not os.path.islink(path):
                        self._add_callback(path)

    def lossless_observer(overflowed: Callable[[], None]) -> BaseObserver | None:
        """Return an observer that calls `overflowed`, on a thread of its own, after a loss."""

        class Group(_WatchGroup):
            pass

        Group.overflowed = staticmethod(overflowed)

        class Emitter(InotifyEmitter):
            def on_thread_start(self) -> None:
                self._inotify = Group(
                    self._inotify_fd,
                    os.fsencode(self.watch.path),
                    is_recursive=self.watch.is_recursive,
                    event_mask=self.get_event_mask_from_filter(),
                    follow_symlink=self.watch.follow_symlink,
                )

        return BaseObserver(Emitter, timeout=DEFAULT_OBSERVER_TIMEOUT)

else:

    def lossless_observer(overflowed: Callable[[], None]) -> BaseObserver | None:
        """Return None: elsewhere the platform's own observer is used."""
        return None
