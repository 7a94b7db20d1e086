"""Where the faults of one project meet it: its seams, and what is in force there."""

from __future__ import annotations

from conv_realtime.local.seams import Seams
from conv_realtime.testing.faults.fault import Registry
from conv_realtime.testing.faults.http import Gate, HttpFault
from conv_realtime.testing.faults.realtime import FaultyPolicy, RealtimeFault
from conv_realtime.testing.faults.tokens import Expiry, TokenBook
from conv_realtime.testing.threads import LoopThread

_GRACE_SECONDS = 0.25


class Wiring:
    """Made before the project, which gets `seams`.

    Args:
        thread: the server's.

    Attributes:
        http: faults of requests.
        realtime: faults of messages, joins and replication.
        expiries: of tokens.
        tokens: every token that was issued or shown.
        seams: what brings them all into force.
    """

    def __init__(self, thread: LoopThread) -> None:
        self.http: Registry[HttpFault] = Registry(thread)
        self.realtime: Registry[RealtimeFault] = Registry(thread)
        self.expiries: Registry[Expiry] = Registry(thread)
        self.tokens = TokenBook(self.expiries)
        self.seams = Seams(
            around=lambda app: Gate(app, self.http),
            judging=self.tokens.judging,
            policy=FaultyPolicy(self.realtime),
            grace_seconds=_GRACE_SECONDS,
        )

    def clear(self) -> None:
        """Undoes all faults."""
        self.http.clear()
        self.realtime.clear()
        self.expiries.clear()
