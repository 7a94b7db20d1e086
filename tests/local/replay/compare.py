"""Compares what two servers sent on one connection.

What follows from the hour or the run is taken out first: times, random ids, the rows' and
bindings' numbers, the seconds since a token expired. Numbers keep their exact form.

On a real server each channel is a process of its own and an acknowledgement is no part of the
fan-out, so on one connection the order is fixed within three kinds of streams: the socket itself,
the frames of one topic, the acknowledgements of one topic. Each is compared on its own.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from conv_realtime.local.realtime.frames import Push, Version, decode
from tests.local.replay.captures import Line

NUMBERED_TABLES = ("room_messages", "todos", "todos_full")
"""Their rows are numbered by the database."""

LONG = 6000
"""Characters up to which the captures have a frame whole."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-9a-f][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_VOLATILE = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"), "<time in ms>"),
    (re.compile(r"20[2-9]\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?\+00:00"), "<time>"),
    (re.compile(r"expired \d+ seconds ago"), "expired <n> seconds ago"),
)
_PEOPLE = ("11111111-", "22222222-")
"""How the ids of the captures' users begin."""


@dataclass(frozen=True)
class Gap:
    """One difference in a stream; what is absent on one side is None."""

    real: str | None
    ours: str | None

    def __str__(self) -> str:
        return f"real: {self.real or 'nothing'}\n    ours: {self.ours or 'nothing'}"


def gaps(
    real: Iterable[Line], ours: Iterable[Line], sent: Iterable[Line], version: Version
) -> list[Gap]:
    """Compares what a real server sent on one connection with what ours sent.

    Args:
        real: as captured.
        ours: as recorded.
        sent: what the client sent.
        version: that the connection speaks.
    """
    pushes = _pushes(sent, version)
    theirs, own = _streams(real, version, pushes), _streams(ours, version, pushes)
    return [
        gap
        for key in sorted(theirs.keys() | own.keys())
        for gap in _compared(theirs.get(key, []), own.get(key, []))
    ]


def _compared(real: Sequence[str], ours: Sequence[str]) -> list[Gap]:
    found: list[Gap] = []
    matcher = SequenceMatcher(None, real, ours, autojunk=False)
    for kind, real_from, real_to, ours_from, ours_to in matcher.get_opcodes():
        if kind == "equal":
            continue
        left: list[str | None] = [*real[real_from:real_to]]
        right: list[str | None] = [*ours[ours_from:ours_to]]
        width = max(len(left), len(right))
        left += [None] * (width - len(left))
        right += [None] * (width - len(right))
        found += [Gap(*pair) for pair in zip(left, right, strict=True)]
    return found


def _streams(
    lines: Iterable[Line], version: Version, pushes: set[tuple[str, str]]
) -> dict[str, list[str]]:
    """Sorts lines into streams, each line steadied and written as text."""
    streams: dict[str, list[Any]] = {}
    for line in lines:
        if line.op == "http":
            streams.setdefault("", []).append(line.data)
        elif line.op == "close":
            streams.setdefault("", []).append({"close": line.code})
        elif line.length > LONG:
            # Cut in the captures: what is left of it is no JSON.
            streams.setdefault("long", []).append({"characters of a long frame": line.length})
        else:
            try:
                frame = parsed(line.data, version)
            except (ValueError, LookupError, TypeError):
                streams.setdefault("unreadable", []).append({"unreadable": repr(line.data)})
                continue
            is_ack = frame["event"] == "phx_reply" and (frame["topic"], frame["ref"]) in pushes
            key = f"{'ack ' if is_ack else ''}{frame['topic']}"
            streams.setdefault(key, []).append(frame)
    return {key: _Steadied().all(stream) for key, stream in streams.items()}


def _pushes(sent: Iterable[Line], version: Version) -> set[tuple[str, str]]:
    """Gives topic and ref of each broadcast that the client sent."""
    found = set()
    for line in sent:
        if line.op not in ("text", "binary"):
            continue
        message = decode(version, line.data)
        if isinstance(message, Push) or (message and message.event == "broadcast"):
            found.add((message.topic, str(message.ref)))
    return found


def parsed(data: str | bytes, version: Version) -> dict[str, Any]:
    """Takes a frame apart.

    Raises:
        ValueError, LookupError, TypeError: it is none of this version.
    """
    if isinstance(data, bytes):
        return _binary(data)
    frame = json.loads(data, parse_float=lambda text: f"<number {text}>")
    if version is Version.V1:
        return {"topic": frame["topic"], "event": frame["event"], "ref": frame["ref"], **frame}
    join_ref, ref, topic, event, payload = frame
    return {"join_ref": join_ref, "ref": ref, "topic": topic, "event": event, "payload": payload}


def _binary(data: bytes) -> dict[str, Any]:
    kind, *sizes, encoding = data[:5]
    fields, start = [], 5
    for size in sizes:
        fields.append(data[start : start + size].decode())
        start += size
    topic, name, metadata = fields
    payload = data[start:]
    return {
        "topic": topic,
        "event": f"binary of kind {kind}, encoding {encoding}",
        "name": name,
        "metadata": json.loads(metadata) if metadata else None,
        "payload": json.loads(payload, parse_float=lambda text: f"<number {text}>")
        if encoding == 1
        else base64.b64encode(payload).decode(),
    }


class _Steadied:
    """Replaces what is volatile; a number stands for the same row or binding all along a stream."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, int], str] = {}
        self._bindings: dict[int, str] = {}
        self._uuids: dict[str, str] = {}

    def all(self, frames: Iterable[Any]) -> list[str]:
        """Writes each frame as text that two runs have in common."""
        return [self._one(frame) for frame in frames]

    def _one(self, frame: Any) -> str:
        self._uuids.clear()  # that two ids are the same is told within a frame
        return json.dumps(self._value(frame), ensure_ascii=False, sort_keys=True)

    def _value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._value(item) for key, item in self._numbered(value).items()}
        if isinstance(value, list):
            return [self._value(item) for item in value]
        return self._text(value) if isinstance(value, str) else value

    def _numbered(self, value: dict[str, Any]) -> dict[str, Any]:
        value = dict(value)
        if isinstance(value.get("id"), int) and ("schema" in value or "table" in value):
            value["id"] = self._binding(value["id"])
        if isinstance(value.get("ids"), list) and "data" in value:
            value["ids"] = sorted(self._binding(number) for number in value["ids"])
        table = value.get("table")
        if table in NUMBERED_TABLES:
            for name in ("record", "old_record"):
                row = value.get(name)
                if isinstance(row, dict) and isinstance(row.get("id"), int):
                    value[name] = row | {"id": self._row(table, row["id"])}
        return value

    def _binding(self, number: int) -> str:
        return self._bindings.setdefault(number, f"<binding {len(self._bindings) + 1}>")

    def _row(self, table: str, number: int) -> str:
        return self._rows.setdefault((table, number), f"<row {len(self._rows) + 1}>")

    def _text(self, text: str) -> str:
        for pattern, shown in _VOLATILE:
            text = pattern.sub(shown, text)
        return _UUID.sub(lambda found: self._uuid(found[0]), text)

    def _uuid(self, text: str) -> str:
        if text.startswith(_PEOPLE):
            return text
        return self._uuids.setdefault(text, f"<uuid {len(self._uuids) + 1}>")
