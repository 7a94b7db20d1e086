"""What goes wrong between the processes and their Supabase, counted as it strikes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from conv_realtime.testing.faults import Fault, Faults
from tests.relay.proxy import Proxy


class StoreFaults:
    """Faults of the Data API."""

    def __init__(self, faults: Faults, injected: Counter[str]) -> None:
        self._faults = faults
        self._injected = injected
        self._begun: list[tuple[str, Fault]] = []

    def begin(self, kind: str, path: str, times: int) -> None:
        """Have so many requests to `path` fail."""
        faults = self._faults
        where: dict[str, Any] = {"path": path, "times": times}
        made: dict[str, Callable[[], Fault]] = {
            "503": lambda: faults.answer(503, **where),
            "502 html": lambda: faults.answer(
                502, body="<h1>Bad gateway</h1>", headers={"content-type": "text/html"}, **where
            ),
            "504": lambda: faults.answer(504, **where),
            "429": lambda: faults.answer(429, path=path, times=1, retry_after=1),
            "portal": lambda: faults.captive_portal(**where),
            "delay": lambda: faults.delay(0.1, **where),
            "hang": lambda: faults.hang(path=path, times=1),
            "answer lost": lambda: faults.disconnect(done=True, **where),
            "cut answer": lambda: faults.cut(3, **where),
            "refused connection": lambda: faults.disconnect(**where),
            "offline": faults.offline,
        }
        self._begun.append((kind, made[kind]()))

    def end(self) -> None:
        """End all of them, and count how often they struck."""
        for kind, fault in self._begun:
            fault.undo()
            self._injected[f"store: {kind}"] += fault.hits
        self._begun.clear()


class FeedFaults:
    """Faults of Realtime, and of the line of one who listens to it."""

    def __init__(self, faults: Faults, line: Proxy, injected: Counter[str]) -> None:
        self._faults = faults
        self._line = line
        self._injected = injected
        self._begun: list[tuple[str, Fault]] = []

    def begin(self, kind: str, times: int) -> None:
        """Have Realtime fail."""
        faults = self._faults
        lasting: dict[str, Callable[[], Fault]] = {
            "lose": faults.lose_messages,
            "lose some": lambda: faults.lose_messages(every=1 + times),
            "double": faults.duplicate_messages,
            "late": lambda: faults.delay_messages(0.05 * times),
            "refuse joins": lambda: faults.refuse_joins(times=times),
            "silence": faults.silence_after_restart,
        }
        at_once: dict[str, Callable[[], int]] = {
            "close channels": faults.close_channels,
            "drop sockets": faults.drop_sockets,
            "half open": lambda: self._keep("silent"),
            "mute": lambda: self._keep("mute"),
        }
        if kind in lasting:
            self._begun.append((kind, lasting[kind]()))
        else:
            self._injected[f"feed: {kind}"] += at_once[kind]()

    def _keep(self, how: str) -> int:
        """Keep connections open and pass nothing."""
        setattr(self._line, how, True)
        return 1

    def end(self) -> None:
        """End all of them, and count how often they struck."""
        if self._line.silent or self._line.mute:
            self._line.silent = self._line.mute = False
            self._line.cut()
        for kind, fault in self._begun:
            fault.undo()
            self._injected[f"feed: {kind}"] += fault.hits
        self._begun.clear()
