"""What a client asks for when it joins a channel, read from the payload of its ``phx_join``."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import orjson

from conv_realtime.local.realtime.replay import MAX_MESSAGES, Replay

_LATEST_MS = 253_402_300_799_000  # the end of the year 9999


class JoinRefused(Exception):
    """A join that is answered with an error; `reason` is the reply's, code first."""

    def __init__(self, code: str, message: str) -> None:
        self.reason = f"{code}: {message}"
        super().__init__(self.reason)


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """A well-formed join.

    Attributes:
        private: only true and the string "true" make a channel private, as on real servers.
        ack: acknowledge the client's broadcasts.
        echo: send the client its own broadcasts.
        replication_ready: tell when broadcasts from the database are certain to arrive.
        replay: the past messages that it asks for.
        bindings: the ``postgres_changes`` that it asks for, each with the id that we give it.
        is_legacy: whether the topic stood for its bindings.
        access_token: None where the key of the connection speaks for it.
    """

    private: bool
    ack: bool
    echo: bool
    replication_ready: bool
    replay: Replay | None
    bindings: tuple[dict[str, Any], ...]
    is_legacy: bool
    access_token: object


def read_join(name: str, payload: object) -> JoinRequest:
    """Reads the payload of a join.

    Args:
        name: the topic without its prefix; without ``config`` it is a legacy
            ``schema:table:filter``.
        payload: any JSON value.

    Raises:
        JoinRefused: the topic is empty, the payload is not an object of objects, or messages
            are to be replayed where they cannot.
    """
    if not name:
        raise JoinRefused("TopicNameRequired", "You must provide a topic name")
    if not isinstance(payload, dict):
        shown = orjson.dumps(payload).decode()
        raise JoinRefused("UnknownErrorOnChannel", f"expected params to be a :map, got: `{shown}`")
    config = payload.get("config")
    if config is not None and not isinstance(config, dict):
        raise JoinRefused("UnknownErrorOnChannel", "config must be an object")
    is_legacy = config is None
    if config is None:
        config = {"postgres_changes": _legacy_changes(name)}
    broadcast = config.get("broadcast")
    if not isinstance(broadcast, dict):
        broadcast = {}
    private = config.get("private") is True or config.get("private") == "true"
    return JoinRequest(
        private=private,
        ack=broadcast.get("ack") is True,
        echo=broadcast.get("self") is True,
        replication_ready=broadcast.get("replication_ready") is True,
        replay=_replay(broadcast.get("replay"), private=private),
        bindings=tuple(_binding(item) for item in _objects(config.get("postgres_changes"))),
        is_legacy=is_legacy,
        access_token=payload.get("access_token"),
    )


def _replay(asked: object, *, private: bool) -> Replay | None:
    if not isinstance(asked, dict):
        return None
    if not private:
        raise JoinRefused("UnableToReplayMessages", "Replay is not allowed for public channels")
    since, limit = asked.get("since"), asked.get("limit", MAX_MESSAGES)
    if not (
        isinstance(since, int | float)
        and 0 <= since <= _LATEST_MS
        and isinstance(limit, int)
        and limit > 0
    ):
        raise JoinRefused("UnableToReplayMessages", "Replay params are not valid")
    return Replay(since / 1000, min(limit, MAX_MESSAGES))


def _legacy_changes(name: str) -> list[dict[str, str]]:
    return [dict(zip(("schema", "table", "filter"), name.split(":", 2), strict=False))]


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _binding(asked: dict[str, Any]) -> dict[str, Any]:
    """Returns what was asked for with an id that is the same for the same binding everywhere."""
    keys = ("event", "filter", "schema", "select", "table")
    binding = {key: asked[key] for key in keys if key in asked}
    return {"id": zlib.crc32(orjson.dumps(binding)) >> 4, **binding}
