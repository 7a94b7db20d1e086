"""Broadcasts over HTTP: a batch, or a single message whose topic and event are in the path.

Both answer 202 with no body. A private message needs the permission to write its topic: the
batch drops it without a word, the single form answers 403. Neither is stored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from conv_realtime.local.realtime.channels import PREFIX
from conv_realtime.local.realtime.connections import Away
from conv_realtime.local.realtime.frames import Outgoing, TextBroadcast, UserBroadcast
from conv_realtime.local.realtime.rules import Surroundings
from conv_realtime.local.realtime.tokens import Token, TokenRefused, read_token

BATCH_PATH = "/realtime/v1/api/broadcast"
MAX_BODY_BYTES = 8_000_000

Answerer = Callable[[Request], Awaitable[Response]]

_TOO_LARGE = {"payload": ["Payload size exceeds tenant limit"]}


class _BodyTooLarge(Exception):
    """A request that is answered with 413."""


class _Invalid(Exception):
    """A request that is answered with 422; `errors` is the body's."""

    def __init__(self, errors: object) -> None:
        self.errors = errors
        super().__init__(str(errors))


@dataclass(frozen=True, slots=True)
class _Message:
    name: str
    event: str
    payload: dict[str, Any]
    private: bool
    id: str | None

    def outgoing(self) -> TextBroadcast:
        body: dict[str, Any] = {"event": self.event, "payload": self.payload, "type": "broadcast"}
        if self.id is not None:
            body["meta"] = {"id": self.id}
        return TextBroadcast(PREFIX + self.name, _encoded(body))


class BroadcastApi:
    """The two endpoints.

    Args:
        around: the channels to publish to and whom to ask for permission.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    @property
    def routes(self) -> list[BaseRoute]:
        """Both, at their full paths."""
        return [
            Route(BATCH_PATH, _guarded(self._batch), methods=["POST"]),
            Route(BATCH_PATH + "/{rest:path}", _guarded(self._single), methods=["POST"]),
        ]

    async def _batch(self, request: Request) -> Response:
        token = self._token(request)
        messages = _messages(_json(await _body(request)))
        outgoing = [(message, message.outgoing()) for message in messages]
        too_large = [self._is_too_large(broadcast.body) for _, broadcast in outgoing]
        if any(too_large):
            raise _Invalid({"messages": [_TOO_LARGE if one else {} for one in too_large]})
        allowed: dict[str, bool] = {}
        for message, broadcast in outgoing:
            if message.private and message.name not in allowed:
                allowed[message.name] = await self._may_write(message.name, token)
            if not message.private or allowed[message.name]:
                self._publish(message.name, broadcast, message.private)
        return Response(status_code=202)

    async def _single(self, request: Request) -> Response:
        place = _topic_and_event(request)
        if place is None:
            return _error(404, "Not found")
        name, event = place
        private = request.query_params.get("private") in ("true", "1")
        token = self._token(request)
        message = _single_message(request, await _body(request), name, event)
        if self._is_too_large(message.payload):
            raise _Invalid(_TOO_LARGE)
        if private and not await self._may_write(name, token):
            return _error(403, "Unauthorized")
        self._publish(name, message, private)
        return Response(status_code=202)

    def _is_too_large(self, payload: bytes) -> bool:
        return len(payload) > self._around.rules.max_payload_bytes

    def _publish(self, name: str, message: Outgoing, private: bool) -> None:
        self._around.topics.publish(PREFIX + name, message, private=private)

    async def _may_write(self, name: str, token: Token) -> bool:
        try:
            return (await self._around.access.check(name, token)).write
        except Away:
            return False

    def _token(self, request: Request) -> Token:
        """Reads the bearer token, else the API key.

        Raises:
            TokenRefused: there is none that holds.
        """
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        is_bearer = scheme.lower() == "bearer" and not bearer.startswith("sb_")
        text = bearer.strip() if is_bearer else request.headers.get("apikey")
        return read_token(text, self._around.verify, self._around.now())


def _guarded(answer: Answerer) -> Answerer:
    """Makes an endpoint that also answers where `answer` refuses."""

    async def answered(request: Request) -> Response:
        try:
            return await answer(request)
        except TokenRefused:
            return _error(401, "Unauthorized")
        except _BodyTooLarge:
            return _error(413, "Request entity too large")
        except _Invalid as invalid:
            return _json_response(422, {"errors": invalid.errors})
        except ClientDisconnect:  # nobody is there to read this
            return _error(400, "The request ended early")

    return answered


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise _BodyTooLarge
    return bytes(body)


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _Invalid({"body": ["is not valid JSON"]}) from None


def _single_message(request: Request, body: bytes, name: str, event: str) -> UserBroadcast:
    if request.headers.get("content-type", "").startswith("application/octet-stream"):
        return UserBroadcast(PREFIX + name, event, body, is_json=False)
    payload = _json(body)
    if payload is None:
        raise _Invalid({"payload": ["can't be blank"]})
    return UserBroadcast(PREFIX + name, event, _encoded(payload))


def _encoded(value: object) -> bytes:
    """Writes JSON.

    Raises:
        _Invalid: it is nested deeper than JSON can be written.
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        raise _Invalid({"payload": ["is nested too deeply"]}) from None


def _messages(body: object) -> list[_Message]:
    """Reads a batch; all of it is refused if one message is wrong.

    Raises:
        _Invalid: names each message's wrong fields, `{}` for a right one.
    """
    items = body.get("messages") if isinstance(body, dict) else None
    if items is None:
        raise _Invalid({"messages": ["can't be blank"]})
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _Invalid({"messages": ["is invalid"]})
    faults = [dict(_faults(item)) for item in items]
    if any(faults):
        raise _Invalid({"messages": faults})
    return [
        _Message(
            item["topic"],
            item["event"],
            item["payload"],
            item.get("private") is True or item.get("private") in ("true", "1"),
            item.get("id"),
        )
        for item in items
    ]


def _faults(item: dict[str, Any]) -> Iterable[tuple[str, list[str]]]:
    wanted = {"topic": str, "event": str, "payload": dict}
    for key, kind in wanted.items():
        value = item.get(key)
        if value is None or value == "":
            yield key, ["can't be blank"]
        elif not isinstance(value, kind):
            yield key, ["is invalid"]
    private = item.get("private")
    if not isinstance(private, bool | None) and private not in ("true", "false", "1", "0"):
        yield "private", ["is invalid"]
    if not isinstance(item.get("id"), str | None):
        yield "id", ["is invalid"]


def _topic_and_event(request: Request) -> tuple[str, str] | None:
    """Splits the raw path, in which a slash of a topic is still ``%2F``."""
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    parts = raw.decode("ascii", "replace").split(BATCH_PATH + "/", 1)[-1].split("/")
    if len(parts) != 3 or parts[1] != "events" or not parts[0] or not parts[2]:
        return None
    return unquote(parts[0]), unquote(parts[2])


def _error(status: int, message: str) -> Response:
    return _json_response(status, {"message": message})


def _json_response(status: int, body: object) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
