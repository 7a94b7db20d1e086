"""Which folders are watched: by path, by the number of their watch, and what lies below a path."""

from __future__ import annotations

import os


class Folders:
    """Watched folders. One may be reached by several paths, through links or mounts."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._paths: dict[int, tuple[str, ...]] = {}
        # Of a folder, watched or not: those right below it that are watched or lead to such.
        self._below: dict[str, set[str]] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._numbers

    def number(self, path: str) -> int | None:
        """Return the number of the watch at a path, None where there is none."""
        return self._numbers.get(path)

    def paths(self, number: int) -> tuple[str, ...]:
        """Return the paths from which a watch tells."""
        return self._paths.get(number, ())

    def add(self, path: str, number: int) -> None:
        """Note that the folder at a path is watched."""
        self._numbers[path] = number
        if path not in (known := self.paths(number)):
            self._paths[number] = (*known, path)
        while (above := os.path.dirname(path)) != path:
            beside = self._below.setdefault(above, set())
            if path in beside:
                return
            beside.add(path)
            path = above

    def forget(self, path: str) -> None:
        """Note that another folder is at a path, or none: what is watched is not there."""
        self._numbers.pop(path, None)
        while path not in self._numbers and path not in self._below:
            above = os.path.dirname(path)
            beside = self._below.get(above)
            if beside is None:
                return
            beside.discard(path)
            if beside:
                return
            del self._below[above]
            path = above

    def forget_paths(self) -> None:
        """Note that nobody knows which folder is where; watches tell as before."""
        self._numbers.clear()
        self._below.clear()

    def end(self, number: int) -> list[str]:
        """Forget a watch that has ended; return the paths at which nothing is watched now."""
        ended = [path for path in self._paths.pop(number, ()) if self._numbers.get(path) == number]
        for path in ended:
            self.forget(path)
        return ended

    def drop(self, path: str) -> list[int]:
        """Forget a path and all below it; return the watches that are of no use any more.

        No other path is looked at: a folder that moves is one of tens of thousands.
        """
        found, useless = [path], []
        for one in found:  # it grows on the way
            found.extend(self._below.get(one, ()))
        for one in found:
            number = self._numbers.get(one)
            if number is None:
                continue
            self.forget(one)
            others = tuple(other for other in self._paths.pop(number, ()) if other != one)
            if others:
                self._paths[number] = others
            else:
                useless.append(number)
        return useless
