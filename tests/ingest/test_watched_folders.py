"""Which folders are watched: by path, by watch, and below a path without a look at any other."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conv_realtime.edges.watch.folders import Folders
from conv_realtime.edges.watch.inotify import InotifyWatcher
from conv_realtime.edges.watch.kernel import IS_FOLDER, MOVED_FROM
from conv_realtime.edges.watch.watcher import Wakeup
from tests.ingest.steps import steps

PATHS = ["/", "/a", "/b", "/a/a", "/a/b", "/ab", "/a/a/a", "/a/a/b", "/b/a/a"]
_path, _number = st.sampled_from(PATHS), st.integers(1, 4)
_action = st.one_of(
    st.tuples(st.just("add"), st.tuples(_path, _number)),
    st.tuples(st.sampled_from(["forget", "drop"]), st.tuples(_path)),
    st.tuples(st.just("end"), st.tuples(_number)),
    st.tuples(st.just("forget_paths"), st.just(())),
)


class Listed:
    """The same, found by going through all folders each time."""

    def __init__(self) -> None:
        self.watches: dict[str, int] = {}
        self.told: set[tuple[int, str]] = set()

    def add(self, path: str, number: int) -> None:
        self.watches[path] = number
        self.told.add((number, path))

    def forget(self, path: str) -> None:
        self.watches.pop(path, None)

    def forget_paths(self) -> None:
        self.watches.clear()

    def end(self, number: int) -> list[str]:
        ended = [p for p, n in self.watches.items() if n == number]
        self.told = {(n, p) for n, p in self.told if n != number}
        for path in ended:
            self.forget(path)
        return ended

    def drop(self, path: str) -> list[int]:
        below = path.rstrip("/") + "/"
        gone = {(n, p) for p, n in self.watches.items() if p == path or p.startswith(below)}
        self.told -= gone
        for _, one in gone:
            self.forget(one)
        return sorted({n for n, _ in gone} - {n for n, _ in self.told})


@given(st.lists(_action, max_size=40))
def test_folders_are_what_was_added_and_not_forgotten(
    actions: list[tuple[str, tuple[Any, ...]]],
) -> None:
    """Whatever happens to them in whatever order; in the end nothing of them is left."""
    folders, listed = Folders(), Listed()
    for name, what in actions:
        answers = [getattr(one, name)(*what) or [] for one in (folders, listed)]
        assert sorted(answers[0]) == sorted(answers[1])
        assert {path: folders.number(path) for path in PATHS if path in folders} == listed.watches
        told = {(number, path) for number in range(1, 5) for path in folders.paths(number)}
        assert told == listed.told
    folders.drop("/")
    assert not folders._below


@pytest.mark.skipif(sys.platform != "linux", reason="is about inotify")
def test_a_folder_that_moves_costs_what_is_below_it() -> None:
    """And nothing for those beside it, which may be tens of thousands."""

    def cost(beside: int) -> int:
        watcher = InotifyWatcher([])
        for number in range(beside):
            watcher._folders.add(f"/top/{number}", 2 * number)
            watcher._folders.add(f"/top/{number}/below", 2 * number + 1)
        cost = steps(lambda: watcher._take_one(Wakeup(), "/top/3", IS_FOLDER | MOVED_FROM))
        assert "/top/3/below" not in watcher._folders and "/top/4/below" in watcher._folders
        return cost

    assert cost(10) == cost(1_000) > 0
