"""The protocol for people: every frame, what its fields mean, and an example, as Markdown.

    python -m conv_realtime.relay.protocol.reference

writes the README of this folder anew between its two marks, from the AsyncAPI document.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from conv_realtime.relay.asyncapi import document

PAGE = Path(__file__).with_name("README.md")
_BEGIN, _END = "<!-- made from the models -->\n", "<!-- to here -->\n"
_WIDTH = 98
_FORMATS = {"uuid": "UUID", "date-time": "time"}


def page(text: str) -> str:
    """Return the page `text` with the frames of this version between its marks."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    made = "\n".join(_Reference(document()).lines())
    return f"{before}{_BEGIN}\n{made}\n\n{_END}{after}"


class _Reference:
    """Writes the frames. The fields of a schema stand where it comes first, and a link later."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        components = document["components"]
        self._messages: Mapping[str, Any] = components["messages"]
        self._schemas: Mapping[str, Any] = components["schemas"]
        self._changes = [
            message["$ref"].rpartition("/")[2]
            for message in document["operations"]["events"]["messages"]
        ]
        self._codes: Mapping[str, str] = document["channels"]["ws"]["x-close-codes"]
        self._told: dict[str, str] = {}

    def lines(self) -> Iterator[str]:
        """Yield what stands between the marks."""
        clients = [name for name in self._messages if name.startswith("client_")]
        others = [name for name in self._messages if name not in (*self._changes, *clients)]
        for title, names in (
            ("From the server: what changed", self._changes),
            ("From the server: the connection", others),
            ("From the client", clients),
        ):
            yield from (f"## {title}", "")
            for name in names:
                yield from self._frame(name)
        yield from ("## Why the server closes", "", "| code | why |", "|---|---|")
        yield from (f"| {code} | {why} |" for code, why in self._codes.items())

    def _frame(self, name: str) -> Iterator[str]:
        message = self._messages[name]
        word = f"`{message['name']}`"
        yield from (f"### {f'Client: {word}' if name.startswith('client_') else word}", "")
        yield from (message["summary"], "")
        payload = self._resolved(message["payload"])
        data = self._resolved(payload["properties"]["data"])
        if data.get("properties"):
            yield from self._fields(name, message["name"], data)
        for example in message["examples"]:
            frame = example["payload"]
            begun = f'{{"type": "{frame["type"]}", "data": '
            shown = _render(frame["data"], 0, _WIDTH - len(begun) - 1)
            yield from ("```json", f"{begun}{shown}}}", "```", "")

    def _fields(self, name: str, word: str, schema: Mapping[str, Any]) -> Iterator[str]:
        title = schema["title"]
        if title in self._told:
            yield from (f"`data` is that of {self._told[title]}.", "")
            return
        anchor = f"client-{word}" if name.startswith("client_") else word
        self._told[title] = f"[`{word}`](#{anchor})"
        yield from ("| in `data` | is | |", "|---|---|---|")
        for field, found in schema["properties"].items():
            described = found.get("description", "")
            yield f"| `{field}` | {self._kind(found)} | {described} |"
        yield ""

    def _kind(self, schema: Mapping[str, Any]) -> str:
        """Return in words what a value may be."""
        if "anyOf" in schema:
            return " or ".join(self._kind(one) for one in schema["anyOf"])
        if "$ref" in schema or "allOf" in schema:
            found = self._resolved(schema)
            return self._told.get(found["title"]) or "`{" + ", ".join(found["properties"]) + "}`"
        if "enum" in schema:
            return ", ".join(f"`{value}`" for value in schema["enum"])
        if schema.get("type") == "array":
            items = schema["items"]
            named = items.get("enum") == self._changes
            return "list of types" if named else f"list of {self._kind(items)}"
        if schema.get("type") == "object":
            inner = schema.get("additionalProperties")
            return f"object of {self._kind(inner)}" if isinstance(inner, dict) else "object"
        return _FORMATS.get(schema.get("format", "")) or str(schema.get("type", "JSON"))

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        if "allOf" in schema:
            (schema,) = schema["allOf"]
        reference = schema.get("$ref")
        if reference is None:
            return schema
        found: Mapping[str, Any] = self._schemas[reference.rpartition("/")[2]]
        return found


def _render(value: Any, indent: int, room: int | None = None) -> str:
    """Return JSON that fills lines where it does not fit into the `room` that is left of one."""
    text = json.dumps(value, ensure_ascii=False)
    fits = len(text) <= (_WIDTH - indent if room is None else room)
    if fits or not isinstance(value, dict | list):
        return text
    inner = indent + 2
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {_render(one, inner)}" for key, one in value.items()]
    else:
        parts = [_render(one, inner) for one in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    lines = [" " * inner + line for line in _filled(parts, _WIDTH - inner)]
    return "\n".join([opening, *lines, " " * indent + closing])


def _filled(parts: Sequence[str], width: int) -> Iterable[str]:
    """Join parts by commas into lines; a part of several lines stands alone."""
    lines: list[str] = []
    for number, part in enumerate(parts):
        told = part + ("," if number < len(parts) - 1 else "")
        if lines and "\n" not in lines[-1] + told and len(lines[-1]) + 1 + len(told) <= width:
            lines[-1] += " " + told
        else:
            lines.append(told)
    return lines


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
