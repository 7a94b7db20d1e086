"""The protocol of `/ws` as an AsyncAPI 3 document, made from the models that speak it.

    python -m conv_realtime.relay.asyncapi > asyncapi.json

The document of this version lies beside this file. Payloads are JSON Schema draft 07, AsyncAPI's
own dialect, so a generator of clients reads them as they are. A client must bear fields that it
does not know: the document closes the frame, which has two fields, and leaves `data` open.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from conv_realtime import events
from conv_realtime.core.envelope import MAX_FRAME_BYTES
from conv_realtime.core.requests import MAX_REQUEST_BYTES, MAX_SNAPSHOT_MESSAGES
from conv_realtime.relay.protocol import examples
from conv_realtime.settings import Settings

VERSION = "1.0.0"
"""Of the protocol: its first number rises when an old client would fail."""

SHIPPED = Path(__file__).with_name("asyncapi.json")

CLOSE_CODES: Mapping[int, str] = {
    1008: "The client sent too many frames.",
    1009: f"The client sent a frame over {MAX_REQUEST_BYTES} bytes.",
    1011: "The client answers no ping.",
    1012: "The server goes away: come back, with the newest cursor.",
    1013: "The client was too slow and had been told so by resync: come back with a snapshot.",
    4401: "The token has expired: come back with a new one.",
}
"""Why the server closes; never 1000."""

_DATA = (
    events.NewConversation,
    events.ConversationUpdate,
    events.ConversationDeleted,
    events.NewMessage,
    events.MessageUpdate,
    events.MessageDeleted,
    events.ProjectUpdate,
    events.FileUpdate,
)
_OTHERS = (
    events.ConnectionEstablished,
    events.Snapshot,
    events.Subscribed,
    events.Unsubscribed,
    events.Pong,
    events.Ping,
    events.Resync,
    events.ErrorEvent,
    events.ServerShutdown,
)
_REQUESTS: Mapping[str, tuple[str, type[BaseModel] | None]] = {
    "subscribe": (
        "Replace the whole filter; `since` asks for what was missed, `snapshot` for the state: "
        f"true or the last messages wanted of each conversation, 0 to {MAX_SNAPSHOT_MESSAGES}.",
        events.SubscribeRequest,
    ),
    "unsubscribe": (
        "Without data end all data events; with ids leave these out.",
        events.UnsubscribeRequest,
    ),
    "ping": (
        "Ask for a `pong` with the same `timestamp`, of any JSON type. The answer stands behind "
        "everything that was sent before.",
        None,
    ),
    "pong": ("Answer a `ping`.", None),
}
_ANSWERS = {
    "subscribe": ("subscribed", "snapshot", "resync", "error"),
    "unsubscribe": ("unsubscribed", "error"),
    "ping": ("pong",),
}


def document() -> dict[str, Any]:
    """Return the document as JSON values."""
    messages = {_type_of(model): _server_message(model) for model in (*_DATA, *_OTHERS)}
    # The names of the client's ping and pong are taken.
    messages |= {f"client_{name}": _client_message(name) for name in _REQUESTS}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "conv_realtime /ws",
            "version": VERSION,
            "license": {"name": "MIT"},
            "description": "Live events of AI-assistant conversations. Text frames of exactly two "
            "fields, type and data. A client upserts rows by id, drops revisions lower than the "
            "one it has, and keeps the newest cursor to go on from: not one that came between its "
            "`subscribe` and the answer, and of a snapshot only that of the last frame.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "127.0.0.1:8787",
                "protocol": "ws",
                "description": "conv-realtime up; strangers need a token.",
                "security": [
                    {"$ref": f"#/components/securitySchemes/{name}"} for name in _SECURITY
                ],
            }
        },
        "channels": {"ws": _channel(messages)},
        "operations": _operations(),
        "components": {
            "schemas": _schemas(),
            "messages": messages,
            "securitySchemes": _SECURITY,
        },
    }


_SECURITY: Mapping[str, Any] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The static token, or a Supabase user's: also as the subprotocols "
        "`conv_realtime, bearer.<token>`, where a browser cannot set headers.",
    },
    "token": {"type": "httpApiKey", "name": "token", "in": "query"},
}


def _channel(messages: Iterable[str]) -> dict[str, Any]:
    query = {
        "type": "object",
        "properties": {
            "token": {"type": "string", "description": "Where no header can be set."},
            "timestamp": {
                "type": "string",
                "enum": ["1", "true", "yes"],
                "description": "Frames as older clients know them, with a third field: "
                "timestamp, in milliseconds.",
            },
        },
    }
    return {
        "address": Settings.model_fields["ws_path"].default,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"ws": {"method": "GET", "query": query, "bindingVersion": "0.1.0"}},
        "x-close-codes": {str(code): why for code, why in CLOSE_CODES.items()},
        "x-max-request-bytes": MAX_REQUEST_BYTES,
        "x-max-frame-bytes": MAX_FRAME_BYTES,
    }


def _operations() -> dict[str, Any]:
    told = [_type_of(model) for model in _DATA]
    unasked = ["connection_established", "ping", "resync", "server_shutdown"]
    operations: dict[str, Any] = {
        "events": _operation("send", "What changed, as far as the client wants it.", told),
        "connection": _operation("send", "What concerns the connection itself.", unasked),
    }
    for name, (summary, _) in _REQUESTS.items():
        operations[name] = _operation("receive", summary, [f"client_{name}"])
        if name in _ANSWERS:
            operations[name]["reply"] = {
                "channel": {"$ref": "#/channels/ws"},
                "messages": _references(_ANSWERS[name]),
            }
    return operations


def _operation(action: str, summary: str, messages: Iterable[str]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/ws"},
        "summary": summary,
        "messages": _references(messages),
    }


def _references(messages: Iterable[str]) -> list[dict[str, str]]:
    return [{"$ref": f"#/channels/ws/messages/{name}"} for name in messages]


def _server_message(model: type[BaseModel]) -> dict[str, Any]:
    name = _type_of(model)
    return {
        "name": name,
        "summary": inspect.cleandoc(model.__doc__ or ""),
        "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
        "examples": [{"payload": json.loads(examples.SERVER[name].to_json())}],
    }


def _client_message(name: str) -> dict[str, Any]:
    summary, model = _REQUESTS[name]
    data: dict[str, Any] = {"type": "object"}
    if model is not None:
        data = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {
        "name": name,
        "summary": summary,
        "payload": {
            "type": "object",
            "required": ["type"],
            "properties": {"type": {"const": name}, "data": data},
        },
        "examples": [{"payload": {"type": name, "data": examples.CLIENT[name]}}],
    }


class _Untitled(GenerateJsonSchema):
    """Names models and not their fields: "Created At" tells nobody anything."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _schemas() -> dict[str, Any]:
    spoken = [(model, "serialization") for model in (*_DATA, *_OTHERS)]
    asked = [(model, "validation") for _, model in _REQUESTS.values() if model is not None]
    _, schemas = models_json_schema(
        [*spoken, *asked],  # type: ignore[list-item]
        ref_template="#/components/schemas/{model}",
        schema_generator=_Untitled,
    )
    definitions: dict[str, Any] = schemas["$defs"]
    return definitions


def _type_of(model: type[BaseModel]) -> str:
    return str(model.model_fields["type"].default)


def as_text() -> str:
    """Return the document as the file beside this one holds it."""
    return json.dumps(document(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_text())
