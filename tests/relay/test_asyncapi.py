"""The document of the protocol: current, valid, and what is really spoken."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import jsonschema_rs
import pytest
from pydantic import BaseModel

from conv_realtime.core.following import read_event
from conv_realtime.core.requests import read_request
from conv_realtime.events import (
    DATA_TYPES,
    ErrorEvent,
    Event,
    SubscribeRequest,
    UnsubscribeRequest,
    data,
)
from conv_realtime.relay.asyncapi import CLOSE_CODES, SHIPPED, as_text, document
from conv_realtime.relay.protocol import reference as page
from tests.relay.protocol import check_frame, shipped

PACKAGE = SHIPPED.parents[1]
_SCHEMA = Path(__file__).parents[1] / "js/node_modules/@asyncapi/specs/schemas/3.0.0.json"


def test_the_shipped_document_is_the_current_one() -> None:
    """Whoever changes an event writes the document anew; the command that does is named in it."""
    printed = subprocess.run(
        [sys.executable, "-m", "conv_realtime.relay.asyncapi"], capture_output=True, check=True
    )
    assert printed.stdout.decode() == as_text()
    command = f"python -m conv_realtime.relay.asyncapi > {SHIPPED.name}"
    assert json.loads(SHIPPED.read_text()) == document(), command


@pytest.mark.node
def test_it_is_valid_asyncapi_3() -> None:
    """AsyncAPI's own schema takes it, and would not take any document."""
    if not _SCHEMA.exists():
        pytest.skip("needs the packages of tests/js: npm ci --prefix tests/js")
    asyncapi = jsonschema_rs.Draft7Validator(json.loads(_SCHEMA.read_text()))
    assert [error.message for error in asyncapi.iter_errors(document())] == []
    broken = copy.deepcopy(document())
    broken["operations"]["events"]["action"] = "shout"
    assert not asyncapi.is_valid(broken)


def test_every_reference_leads_somewhere() -> None:
    """A generator follows references; none may end in nothing."""

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            here = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return here + [found for inner in value.values() for found in references(inner)]
        if isinstance(value, list):
            return [found for inner in value for found in references(inner)]
        return []

    found = references(shipped())
    assert len(found) > 50
    for reference in found:
        place: Any = shipped()
        for key in reference.removeprefix("#/").split("/"):
            place = place[key]


def test_every_event_and_request_is_in_it() -> None:
    """No type of the protocol is left out, and each is used by an operation."""
    (union, *_) = get_args(Event)
    types = {kind.model_fields["type"].default for kind in get_args(union)}
    asked = {"client_subscribe", "client_unsubscribe", "client_ping", "client_pong"}
    messages = shipped()["components"]["messages"]
    assert set(messages) == types | asked
    assert set(DATA_TYPES) <= types
    used = json.dumps(shipped()["operations"])
    assert all(f'"#/channels/ws/messages/{name}"' in used for name in messages)


@pytest.mark.parametrize("name", list(document()["components"]["messages"]))
def test_every_frame_has_an_example_that_is_understood(name: str) -> None:
    """The models take what it shows, with every field; a request is answered with no error."""
    (example,) = shipped()["components"]["messages"][name]["examples"]
    frame = json.dumps(example["payload"])
    if name.startswith("client_"):
        assert not isinstance(read_request(frame), ErrorEvent)
    else:
        event = read_event(frame)
        assert event is not None and json.loads(event.to_json()) == check_frame(frame)


def test_the_reference_is_the_current_one() -> None:
    """Whoever changes an event, its words or its example writes the page anew."""
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.page(text) == text, "python -m conv_realtime.relay.protocol.reference"


def test_the_reference_has_every_frame_and_field() -> None:
    """A frame has a heading, what it means and its example; a field of its data a row."""
    _, *frames = re.split(r"^### (?:Client: )?`(\w+)`$", _reference(), flags=re.MULTILINE)
    messages = shipped()["components"]["messages"]
    assert frames[::2] == [message["name"] for message in messages.values()]
    rows = set(re.findall(r"^\| `(\w+)` \|", _reference(), flags=re.MULTILINE))
    models: list[type[BaseModel]] = [SubscribeRequest, UnsubscribeRequest]
    models += data.Data.__subclasses__()
    for model in models:
        fields = set(model.model_fields)
        assert fields <= rows or f"`{{{', '.join(model.model_fields)}}}`" in _reference(), model
    for text, message in zip(frames[1::2], messages.values(), strict=True):
        assert message["summary"] in text
        (block,) = re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        assert [json.loads(block)] == [example["payload"] for example in message["examples"]]


def test_every_reason_and_code_is_said() -> None:
    """Why there is a gap, what an error may be, and why the server closes."""
    code = "".join(path.read_text() for path in PACKAGE.glob("relay/*.py"))
    code += (PACKAGE / "core" / "requests.py").read_text()
    reasons = set(re.findall(r'reason="(\w+)"|_resync\(hub, client, "(\w+)"', code))
    errors = set(re.findall(r'\berror\("(\w+)"', code))
    closes = set(re.findall(r"\b(1\d{3}|4\d{3}), \"[a-z]", code))
    assert len(reasons) >= 4 and len(errors) >= 5 and len(closes) >= 5
    for word in {one or other for one, other in reasons} | errors:
        assert f"`{word}`" in _reference(), word
    assert closes <= {str(code) for code in CLOSE_CODES}


def _reference() -> str:
    return page.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "frame",
    [
        '{"type": "pong", "data": {"timestamp": 1}, "more": 1}',
        '{"type": "pong"}',
        '{"type": "pong", "data": {}}',
        '{"type": "pong", "data": {"timestamp": 1, "more": 1}}',
        '{"type": "ping", "data": {"timestamp": "noon", "cursor": "s.1"}}',
        '{"type": "resync", "data": {"reason": "x", "cursor": null}}',
    ],
)
def test_a_frame_that_is_not_in_it_is_found(frame: str) -> None:
    """The judge of the other tests judges: fields too many, too few, or of another kind."""
    with pytest.raises(jsonschema_rs.ValidationError):
        check_frame(frame)
