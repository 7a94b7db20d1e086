"""Where a test takes a hand in a project. A project that people use has none of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp

from conv_realtime.local.keys import Verify
from conv_realtime.local.realtime.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Seams:
    """What stands in the way of requests, tokens and messages.

    Attributes:
        around: makes the application that the web server runs out of the project's own.
        judging: makes the judge of tokens out of the project's own; see `Keys.verify`.
        policy: decides on joins, messages and replication.
        grace_seconds: how long connections may take to end when the project stops.
    """

    around: Callable[[ASGIApp], ASGIApp] | None = None
    judging: Callable[[Verify], Verify] | None = None
    policy: Policy | None = None
    grace_seconds: float = 2.0


NO_SEAMS = Seams()
