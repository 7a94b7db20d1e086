"""watchdog on Linux without its losses.

On overflow watchdog 7.1 removes all watches and registers them again, which overflows once
more in a large tree, and tells its handlers nothing. Here watches stay, folders that are new
are added, and the owner is told. A folder that the kernel refuses to watch, because a limit is
reached, is left out without a word; here the owner is told. A file moved out of the tree holds
back every later event by half a second; here by 20 ms. All observers of a process share one
reader thread, and when an exception has ended it, every later observer is blind; here each has
its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from watchdog.observers.api import DEFAULT_OBSERVER_TIMEOUT, BaseObserver

if TYPE_CHECKING or sys.platform.startswith("linux"):
    from watchdog.observers.inotify import InotifyEmitter, InotifyWatchGroup
    from watchdog.observers.inotify_c import InotifyFD
    from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper

    class _Grouper(InotifyMoveEventGrouper):
        delay = 0.02

    class _WatchGroup(InotifyWatchGroup):
        overflowed: Callable[[], None] = staticmethod(lambda: None)
        refused: Callable[[str], None] = staticmethod(lambda _: None)

        def __post_init__(self) -> None:
            self._move_event_grouper = _Grouper()
            super().__post_init__()

        def on_queue_overflow(self) -> None:
            self.watch_new_folders()
            self.overflowed()

        def watch_new_folders(self) -> None:
            """Watch every folder below that is not watched yet."""
            with self._lock:
                if self.is_active and self.is_recursive:
                    self._watch_new_folders()

        def _watch_new_folders(self) -> None:
            for folder, names, _ in os.walk(self.path):
                for name in names:
                    path = os.path.join(folder, name)
                    if path not in self._active_callbacks_by_path and not os.path.islink(path):
                        self._add_callback(path)

        def _add_callback(self, path: bytes) -> None:
            super()._add_callback(path)
            if path not in self._active_callbacks_by_path and os.access(path, os.R_OK | os.X_OK):
                self.refused(os.fsdecode(path))

    def lossless_observer(
        overflowed: Callable[[], None], refused: Callable[[str], None]
    ) -> BaseObserver | None:
        """Return an observer that tells of its losses, on a thread of its own.

        Args:
            overflowed: called after events were lost.
            refused: called with a folder that exists and that the kernel does not watch.
        """

        reader = InotifyFD()
        reader.start()

        class Group(_WatchGroup):
            pass

        Group.overflowed = staticmethod(overflowed)
        Group.refused = staticmethod(refused)

        class Emitter(InotifyEmitter):
            def __init__(self, *args: Any, **keywords: Any) -> None:
                super().__init__(*args, inotify_fd=reader, **keywords)

            def watch_again(self) -> None:
                """Try folders once more that were refused."""
                if isinstance(self._inotify, Group):
                    self._inotify.watch_new_folders()

            def on_thread_start(self) -> None:
                self._inotify = Group(
                    self._inotify_fd,
                    os.fsencode(self.watch.path),
                    is_recursive=self.watch.is_recursive,
                    event_mask=self.get_event_mask_from_filter(),
                    follow_symlink=self.watch.follow_symlink,
                )

        class Observer(BaseObserver):
            def on_thread_stop(self) -> None:
                super().on_thread_stop()
                reader.stop()

        return Observer(Emitter, timeout=DEFAULT_OBSERVER_TIMEOUT)

else:

    def lossless_observer(
        overflowed: Callable[[], None], refused: Callable[[str], None]
    ) -> BaseObserver | None:
        """Return None: elsewhere the platform's own observer is used."""
        return None
