"""A client's side of `/ws`, without the socket: frames in, frames and events out.

Its rules:

* Between asking and the answer `subscribed` nothing counts: those events are of another filter, and
  what is asked for brings them again.
* The place to go on from is the cursor of the last event told. While a snapshot is under way there
  is none, because no cursor covers the rows that are still to come.
* A gap is told as `Resync`, before anything that comes after it. Whoever asked for a snapshot gets
  a new one, from its first frame, also when the connection was lost in the middle of one. So who
  asks for something else in the middle of one is told first that the rest of it does not come.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from conv_realtime.core.requests import MAX_REQUEST_BYTES
from conv_realtime.events import (
    DATA_TYPES,
    ConnectionEstablished,
    ErrorEvent,
    Event,
    Ping,
    Resync,
    ResyncData,
    ServerShutdown,
    Snapshot,
    Subscribed,
    SubscribeRequest,
)

_HEARTBEAT_SECONDS = 20.0
_KNOWN = frozenset(kind.model_fields["type"].default for kind in get_args(get_args(Event)[0]))
_events: TypeAdapter[Event] = TypeAdapter(Event)


class Follower:
    """What one subscription has come to, over any number of connections.

    Attributes:
        cursor: where to go on from; None while everything is to come.
        told: events for whoever follows, in order.
        saying: frames to send, in order.
        subscribed: the server has confirmed what was asked for last.
        due: a snapshot is to be asked for, again.
        refusal: why the server does not take the subscription.
        heartbeat_seconds: how often the server says something, at least.
        reconnect_after: seconds that a server asked for as it went away.
    """

    def __init__(self, request: SubscribeRequest) -> None:
        self.request = check(request)
        self.cursor = request.since
        self.told: deque[Event] = deque()
        self.saying: deque[str] = deque()
        self.due = False
        self.refusal: str | None = None
        self.heartbeat_seconds = _HEARTBEAT_SECONDS
        self.reconnect_after: float | None = None
        self._welcomed = False
        self._unanswered = 0
        self._filling = False  # frames of a snapshot were told, and more are to come

    @property
    def subscribed(self) -> bool:
        """Whether what was asked for last holds."""
        return self._welcomed and not self._unanswered

    def connected(self) -> None:
        """Begin anew on another connection."""
        self._welcomed = False
        self._unanswered = 0
        self.due = False
        self.refusal = self.reconnect_after = None
        self.saying.clear()
        self._break_off("reconnected")

    def change(self, request: SubscribeRequest) -> None:
        """Follow something else from here on; what was told is behind it.

        Raises:
            ValueError: the request is longer than the server takes.
        """
        self.request = check(request)
        self._break_off("resubscribed")
        if request.since is not None or self._wants_snapshot:
            self.cursor = request.since
        if self._welcomed:
            self.ask()

    def ask(self) -> None:
        """Ask for what comes after the cursor, or without one for everything."""
        self.due = False
        self._unanswered += 1
        self.saying.append(_frame("subscribe", _asked(self.request, self.cursor)))

    def hear(self, text: str | bytes) -> None:
        """Take a frame of the server.

        Raises:
            ValueError: it is not one of this protocol.
        """
        event = read_event(text)
        match event:
            case None:
                pass  # a type that a newer server has
            case ConnectionEstablished(data=data):
                self._welcomed = True
                self.heartbeat_seconds = data.heartbeat_seconds
                if self.cursor is None and not self._wants_snapshot:
                    self.cursor = data.cursor or None
                self.ask()
            case Subscribed():
                self._unanswered -= 1
            case Ping(data=data):
                self.saying.append(_frame("pong", {}))
                self._advance(data.cursor)
            case ServerShutdown(data=data):
                self.reconnect_after = data.reconnect_after_ms / 1000
            case ErrorEvent(data=data) if self._unanswered:
                if data.code != "unavailable":  # that is of a snapshot, which nobody wants by now
                    self.refusal = f"{data.code}: {data.message}"
            case ErrorEvent():
                if self.cursor is None and self._wants_snapshot:
                    self._restart()  # the source of the snapshot does not answer
            case _ if not self._unanswered:
                self._take(event)

    @property
    def _wants_snapshot(self) -> bool:
        return self.request.snapshot is not None and self.request.snapshot is not False

    def _take(self, event: Event) -> None:
        match event:
            case Snapshot(data=data):
                self._filling = data.more
                self.cursor = None if data.more else data.cursor
            case Resync(data=data):
                self.cursor = data.cursor or None
                if self._wants_snapshot:
                    self._restart(told=True)
            case _:
                if event.type not in DATA_TYPES:
                    return
                self._advance(getattr(event.data, "cursor", None))
        self.told.append(event)

    def _advance(self, cursor: str | None) -> None:
        """Move on, unless rows are missing that this cursor would skip."""
        if cursor and not self._unanswered and (self.cursor or not self._wants_snapshot):
            self.cursor = cursor

    def _restart(self, *, told: bool = False) -> None:
        if told:
            self._filling = False
        self._break_off("unavailable")
        self.cursor = None
        self.due = True

    def _break_off(self, reason: str) -> None:
        """Tell that the rest of a snapshot does not come, if some of it was told."""
        if self._filling:
            self._filling = False
            self.told.append(Resync(data=ResyncData(reason=reason, cursor="")))


def check(request: SubscribeRequest) -> SubscribeRequest:
    """Return `request` if a server takes a frame of its length.

    Raises:
        ValueError: it is too long.
    """
    if len(_frame("subscribe", _asked(request, None))) > MAX_REQUEST_BYTES - 256:
        raise ValueError(f"a subscription has at most {MAX_REQUEST_BYTES} bytes: follow projects")
    return request


def read_event(text: str | bytes) -> Event | None:
    """Return the event of a frame, also in the older form; None for a type that is not known.

    Raises:
        ValueError: the frame is not one of this protocol.
    """
    frame = from_json(text)
    if not isinstance(frame, dict) or str(frame.get("type")) not in _KNOWN:
        return None
    try:
        return _events.validate_python({"type": frame["type"], "data": frame.get("data")})
    except ValidationError as error:
        # Its own text would hold what was said.
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg']}") from None


def _asked(request: SubscribeRequest, cursor: str | None) -> dict[str, Any]:
    data = request.model_dump(mode="json", exclude={"since"}, exclude_none=True)
    if cursor is not None:
        data.pop("snapshot", None)
        data["since"] = cursor
    return data


def _frame(name: str, data: dict[str, Any]) -> str:
    return json.dumps({"type": name, "data": data}, separators=(",", ":"))
