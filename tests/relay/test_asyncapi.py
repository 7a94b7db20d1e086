"""The document of the protocol: current, valid, and what is really spoken."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import jsonschema_rs
import pytest

from conv_realtime.core.requests import read_request
from conv_realtime.events import DATA_TYPES, ErrorEvent, Event
from conv_realtime.relay.asyncapi import SHIPPED, as_text, document
from tests.relay.protocol import check_frame, shipped

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


def test_its_examples_are_understood() -> None:
    """What the document shows a client to say is answered with no error."""
    messages = shipped()["components"]["messages"]
    examples = [e["payload"] for m in messages.values() for e in m.get("examples", ())]
    assert len(examples) == 4
    for example in examples:
        assert not isinstance(read_request(json.dumps(example)), ErrorEvent), example


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
