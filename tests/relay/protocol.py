"""The protocol's own document as a judge: is this frame one that `/ws` may send?"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jsonschema_rs

from conv_realtime.relay.asyncapi import SHIPPED


@cache
def shipped() -> dict[str, Any]:
    """Return the AsyncAPI document that the package ships."""
    document: dict[str, Any] = json.loads(SHIPPED.read_text())
    return document


def check_frame(text: str | bytes, *, stamped: bool = False) -> dict[str, Any]:
    """Return a server's frame; fail unless the document describes it, to the last field.

    A `stamped` frame is of the older form: the same, with a timestamp beside.
    """
    frame: dict[str, Any] = json.loads(text)
    judged = dict(frame)
    if stamped:
        assert isinstance(judged.pop("timestamp"), int), frame
    _validators()[frame["type"]].validate(judged)
    return frame


@cache
def _validators() -> dict[str, jsonschema_rs.Draft7Validator]:
    components = shipped()["components"]
    return {
        name: jsonschema_rs.Draft7Validator(
            {**message["payload"], "components": {"schemas": _closed(components["schemas"])}},
            validate_formats=True,
        )
        for name, message in components["messages"].items()
        if not name.startswith("client_")
    }


def _closed(schemas: dict[str, Any]) -> dict[str, Any]:
    """Close what the document leaves open for later versions: this one sends nothing else."""
    return {
        name: {**schema, "additionalProperties": False} if "properties" in schema else schema
        for name, schema in schemas.items()
    }
