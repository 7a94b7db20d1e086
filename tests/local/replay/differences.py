"""The differences between the real Realtime server and ours that stay.

The same lines stand as a table in `conv_realtime/local/README.md`; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.local.replay.compare import Gap


@dataclass(frozen=True)
class Difference:
    """One difference.

    Attributes:
        flow: the captured flow that shows it, or its one capture that does; else what it is about.
        real: parts of frames that only the real server sent.
        ours: parts of frames that only ours sends.
        why: it stays.
        shows: whether frames of that flow show it; else it is not looked for.
    """

    flow: str
    real: tuple[str, ...]
    ours: tuple[str, ...]
    why: str
    shows: bool = True

    def __str__(self) -> str:
        return f"{told(self.ours)} instead of {told(self.real)} ({self.why})"


def told(parts: Sequence[str]) -> str:
    """Names what one side sent."""
    return ", ".join(parts) or "nothing"


_NO_TENANTS = "a local project has no tenant settings and no limits but those in `Rules`"

_CHANGES: tuple[tuple[str, str, str], ...] = (
    (
        "polled every 100 to 500 ms",
        "rows come within milliseconds",
        "the log is streamed",
    ),
    (
        "a failing policy stops everybody's changes",
        "it harms its own users",
        "one user's mistake is nobody else's",
    ),
    (
        "silence about missed rows",
        "a channel is told (an outage of PostgreSQL, too far behind)",
        "a client can read again only if it knows",
    ),
    (
        "a filter on any column compares with the deleted row where that is logged in full",
        "under row level security it holds for every `DELETE`, unless it is on the key",
        "it would tell anybody what was in rows that were hidden from them",
    ),
    (
        "a filter is checked once, when it is made",
        "a right that is withdrawn also ends what filters on that column match",
        "so that nobody goes on guessing",
    ),
    (
        "a policy can write",
        "it cannot",
        "nor can it through the Data API's `GET`",
    ),
    (
        "wal2json does not know published partitions and column lists",
        "they are as the publication says",
        "what is not published is not sent",
    ),
    (
        "stored generated columns come",
        "they are missing, unless the publication publishes them",
        "PostgreSQL's own plug-in leaves them out",
    ),
    (
        "a binding's id is a hash of Erlang's",
        "another number",
        "clients only compare them",
    ),
    (
        "100 rows a second",
        "no limit",
        "nothing is billed",
    ),
)

DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "tokens_connect, tokens_join",
        ("a refusal after 2 s or 5 s",),
        ("a refusal at once",),
        "the delay protects a public server; `Rules` can set it",
        shows=False,
    ),
    Difference(
        "dbdown",
        ("no broadcast from the database after it was away, until somebody joins",),
        ("broadcasts go on by themselves",),
        "a fault of the real server, which no client can want",
        shows=False,
    ),
    Difference(
        "joinrate_channels",
        (),
        ("ChannelRateLimitReached", '{"close": 1000}'),
        "answered at once, so the last refusal and the close come while the client listens",
    ),
    Difference(
        "py_supabase_acreate_client",
        (),
        ('"event": "phx_reply"', "phx_close"),
        "the client left and went at once; here it waits for the answers",
    ),
    Difference(
        "malformed",
        ("the Access module supports only keyword lists",),
        ("config must be an object",),
        "the words of Elixir's runtime, which tell a client nothing",
    ),
    Difference(
        "presence",
        (
            "presence_state",
            "presence_diff",
            '"event": "phx_reply"',
            "Client presence rate limit exceeded",
            "phx_close",
        ),
        (),
        "presence is ignored: neither this library nor its frontends use it",
    ),
    Difference(
        "v1_types",
        ("Subscribed to PostgreSQL",),
        (),
        "said again because the tables were new to its publication; here they are not",
    ),
    Difference(
        "gapcold",
        ("rows are lost until it is connected, which takes seconds",),
        ("none is lost after `Subscribed to PostgreSQL`, which comes at once",),
        "the first subscription need not wait for a tenant to start",
        shows=False,
    ),
    Difference(
        "tenant_disconnect",
        ("Server requested disconnect", '{"close": 1012}'),
        (),
        _NO_TENANTS,
    ),
    Difference(
        "limits_events",
        ("Too many messages per second", "phx_close"),
        ('"event": "broadcast"',),
        _NO_TENANTS,
    ),
    Difference(
        "limits_joins",
        ("ClientJoinRateLimitReached", "429 Too Many Requests"),
        ('"status": "ok"', "phx_close", "101 Switching Protocols", '{"close": 1000}'),
        _NO_TENANTS,
    ),
    Difference("limits_private_only", ("PrivateOnly",), ('"status": "ok"',), _NO_TENANTS),
    Difference(
        "limits_suspended",
        ("403 Forbidden",),
        ("101 Switching Protocols",),
        _NO_TENANTS,
    ),
    Difference(
        "limits_users",
        ("429 Too Many Requests",),
        ("101 Switching Protocols",),
        _NO_TENANTS,
    ),
    *(
        Difference("postgres_changes", (real,), (ours,), why, shows=False)
        for real, ours, why in _CHANGES
    ),
)


@dataclass(frozen=True)
class Verdict:
    """What a flow's gaps amount to.

    Attributes:
        recorded: differences that were expected and came.
        new: gaps that nothing explains.
        stale: differences that were expected and of which some part no longer comes.
    """

    recorded: tuple[Difference, ...]
    new: tuple[Gap, ...]
    stale: tuple[Difference, ...]

    @property
    def good(self) -> bool:
        """Whether everything is as recorded."""
        return not self.new and not self.stale


def recorded_for(*names: str) -> tuple[Difference, ...]:
    """Gives the differences that the frames of a flow, or of one of its captures, show."""
    return tuple(one for one in DIFFERENCES if one.flow in names and one.shows)


def judge(gaps: Sequence[Gap], recorded: Sequence[Difference]) -> Verdict:
    """Explains the gaps of one flow, frame by frame, by the differences recorded for it."""
    real = [gap.real for gap in gaps if gap.real is not None]
    ours = [gap.ours for gap in gaps if gap.ours is not None]
    stale = tuple(
        one
        for one in recorded
        if not all(any(part in frame for frame in real) for part in one.real)
        or not all(any(part in frame for frame in ours) for part in one.ours)
    )
    allowed_real = [part for one in recorded for part in one.real]
    allowed_ours = [part for one in recorded for part in one.ours]
    return Verdict(
        tuple(one for one in recorded if one not in stale),
        tuple(
            gap
            for gap in gaps
            if not (_explained(gap.real, allowed_real) and _explained(gap.ours, allowed_ours))
        ),
        stale,
    )


def _explained(frame: str | None, allowed: Sequence[str]) -> bool:
    return frame is None or any(part in frame for part in allowed)
