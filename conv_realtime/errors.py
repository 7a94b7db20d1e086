"""What can go wrong, by what the caller can do about it.

    ConvRealtimeError
    ├── ConfigError        set or correct something and start again
    ├── SourceError        a transcript or its folder cannot be read
    ├── StoreError         the database refused or could not be reached
    │   └── SessionError   the signed-in user cannot be spoken for, now or any more
    ├── FeedError          Realtime refused a topic or its connection
    └── MigrationError     the schema is missing, older, or not ours

A bad line of a transcript is no exception but a value: `conv_realtime.models.Skipped`.
"""

from __future__ import annotations


class ConvRealtimeError(Exception):
    """The root of every error that this library raises on purpose."""


class ConfigError(ConvRealtimeError):
    """A setting is missing or wrong; `name` is the setting, the message says what to do."""

    def __init__(self, name: str, advice: str) -> None:
        self.name = name
        self.advice = advice
        super().__init__(f"{name}: {advice}")


def unusable(place: object, error: Exception) -> ConfigError:
    """Return the error of a state directory, or of a place in it, that cannot be used.

    `error` is what the system, or SQLite, says of it.
    """
    reason = getattr(error, "strerror", None) or str(error)
    return ConfigError(
        "state_dir",
        f"{place} cannot be used: {reason}; make room in it, make it yours (chown), or choose"
        " another",
    )


class SourceError(ConvRealtimeError):
    """The transcript file or folder `path` cannot be read."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class StoreError(ConvRealtimeError):
    """The database did not take a request.

    Attributes:
        table: the table or function that was asked for.
        code: PostgreSQL's SQLSTATE, PostgREST's `PGRST…` code, or the name of the network error.
        retryable: whether the same request may succeed later without anybody's help.
        retry_after: the seconds that the answer asks to wait before, None if it does not say.
    """

    def __init__(
        self,
        table: str,
        code: str,
        reason: str,
        *,
        retryable: bool,
        retry_after: float | None = None,
    ) -> None:
        self.table = table
        self.code = code
        self.reason = reason
        self.retryable = retryable
        self.retry_after = retry_after
        super().__init__(f"{table}: {code}: {reason}")


class SessionError(StoreError):
    """There is no valid token of the signed-in user; see `retryable`.

    Where it is not, somebody has to sign in again (`conv-realtime login`), and the message says so.
    """

    def __init__(self, code: str, reason: str, *, retryable: bool) -> None:
        super().__init__("session", code, reason, retryable=retryable)


class FeedError(ConvRealtimeError):
    """Realtime refused `topic`, its connection cannot be had, or nobody reads the transcripts."""

    def __init__(self, topic: str, reason: str) -> None:
        self.topic = topic
        self.reason = reason
        super().__init__(f"{topic}: {reason}")


class MigrationError(ConvRealtimeError):
    """The schema in the database is missing, older than this library, or not ours."""

    def __init__(self, name: str, advice: str) -> None:
        self.name = name
        self.advice = advice
        super().__init__(f"{name}: {advice}")
