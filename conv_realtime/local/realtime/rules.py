"""What a Realtime server holds its sockets to, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from conv_realtime.local.keys import Verify
from conv_realtime.local.realtime.access import AccessChecker
from conv_realtime.local.realtime.changes.service import Changes
from conv_realtime.local.realtime.channels import Subscriber, Topics
from conv_realtime.local.realtime.policy import Policy
from conv_realtime.local.realtime.replay import History


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits and delays; sizes in bytes, times in seconds.

    A real server delays a refused join by 5 s and a refused connection by 2 s so that a client
    that repeats itself does not hurt it. On loopback that only hurts, so both default to none.

    Attributes:
        idle_seconds: a socket without a frame from its client for so long is closed with 1000.
        database_seconds: how long a start waits for the stream of the database.
        max_channels: on one socket.
        max_payload_bytes: of a broadcast.
        max_buffered_bytes: waiting for one socket; what reads slower is dropped.
        join_error_seconds: the delay before a refused join is answered.
        connect_error_seconds: the delay before a connection is refused.
        policy_seconds: after which a policy that does not answer is given up.
        publication_seconds: between two looks at which tables are published.
    """

    idle_seconds: float = 60.0
    database_seconds: float = 5.0
    max_channels: int = 100
    max_payload_bytes: int = 3_000_500
    max_buffered_bytes: int = 16 * 1024 * 1024
    join_error_seconds: float = 0.0
    connect_error_seconds: float = 0.0
    policy_seconds: float = 5.0
    publication_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all sockets of a server share.

    Attributes:
        topics: who is on which.
        access: asks the policies of private channels.
        changes: sends the changes of tables.
        history: asks for past broadcasts.
        verify: checks a token.
        rules: limits and delays.
        now: the clock, in seconds since 1970.
        replicating: whether broadcasts from the database are being seen.
        policy: what a test wants done with joins.
        sockets: the open ones.
    """

    topics: Topics
    access: AccessChecker
    changes: Changes
    history: History
    verify: Verify
    rules: Rules
    now: Callable[[], float]
    replicating: Callable[[], bool]
    policy: Policy | None = None
    sockets: set[Subscriber] = field(default_factory=set)
