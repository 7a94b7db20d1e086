"""Faults of Realtime, by the server's `Policy`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from conv_realtime.local.realtime.join import JoinRefused
from conv_realtime.testing.faults.fault import Fault, Registry, first_of, matches


class RealtimeFault(Fault):
    """What happens on some topics.

    Args:
        topic: a pattern; without the `realtime:` prefix.
        times: how often; None for as long as it is in force.
    """

    def __init__(self, topic: str = "*", times: int | None = None) -> None:
        super().__init__(times)
        self._topic = topic

    def concerns(self, name: str) -> bool:
        """Says whether a topic is meant."""
        return matches(name, self._topic)

    def deliveries(self, delays: Sequence[float]) -> Sequence[float]:
        """Changes when, and how often, a message is delivered."""
        return delays

    def refusal(self) -> JoinRefused | None:
        """Gives the error with which joins are refused, if they are."""
        return None


class Loss(RealtimeFault):
    """Every n-th message is lost, for all who listen."""

    def __init__(self, every: int, topic: str, times: int | None) -> None:
        super().__init__(topic, times)
        self._every = every
        self._seen = 0

    def deliveries(self, delays: Sequence[float]) -> Sequence[float]:
        """None for every n-th."""
        self._seen += 1
        return () if self._seen % self._every == 0 and self.strike() else delays


class Doubling(RealtimeFault):
    """Every message comes twice."""

    def deliveries(self, delays: Sequence[float]) -> Sequence[float]:
        """All of them once more."""
        return (*delays, *delays) if self.strike() else delays


class Lateness(RealtimeFault):
    """Messages come late, in their order."""

    def __init__(self, seconds: float, topic: str, times: int | None) -> None:
        super().__init__(topic, times)
        self._seconds = seconds

    def deliveries(self, delays: Sequence[float]) -> Sequence[float]:
        """All of them later."""
        return [delay + self._seconds for delay in delays] if self.strike() else delays


class Refusal(RealtimeFault):
    """Joins are refused."""

    def __init__(self, code: str, message: str, topic: str, times: int | None) -> None:
        super().__init__(topic, times)
        self._error = (code, message)

    def refusal(self) -> JoinRefused | None:
        """The error of this fault."""
        return JoinRefused(*self._error) if self.strike() else None


class Silence(RealtimeFault):
    """After a loss of the database its broadcasts stay away until somebody joins."""

    def __init__(self) -> None:
        super().__init__()
        self.lifted = asyncio.Event()
        self.lifted.set()


class FaultyPolicy:
    """The policy of a project under test; see `Policy`.

    Args:
        faults: those in force.
    """

    def __init__(self, faults: Registry[RealtimeFault]) -> None:
        self._faults = faults

    def refusal(self, name: str) -> JoinRefused | None:
        """The first error that a fault in force gives."""
        for fault in self._concerning(name):
            if (error := fault.refusal()) is not None:
                return error
        return None

    def deliveries(self, name: str) -> Sequence[float]:
        """What all faults in force make of one delivery at once, in their order."""
        delays: Sequence[float] = (0.0,)
        for fault in self._concerning(name):
            delays = fault.deliveries(delays)
        return delays

    def joined(self, name: str) -> None:
        """Lifts the silence."""
        for silence in self._silences():
            silence.lifted.set()

    def replicates(self, connected: bool) -> None:
        """Falls silent when the database has gone."""
        for silence in () if connected else self._silences():
            if silence.lifted.is_set() and silence.strike():
                silence.lifted.clear()

    async def may_replicate(self) -> None:
        """Waits while it is silent."""
        for silence in self._silences():
            await first_of(silence.lifted.wait(), silence._undone.wait())

    def _concerning(self, name: str) -> list[RealtimeFault]:
        return [fault for fault in self._faults.active if fault.concerns(name)]

    def _silences(self) -> list[Silence]:
        return [fault for fault in self._faults.active if isinstance(fault, Silence)]
