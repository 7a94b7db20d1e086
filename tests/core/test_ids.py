"""Ids follow from what a thing is, by the definition that other programs compute them with."""

from __future__ import annotations

import json
from uuid import NAMESPACE_URL, UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from conv_realtime.models import conversation_id, message_id, project_id

_NAMESPACE = uuid5(NAMESPACE_URL, "conv_realtime")
_TEXT = st.text(st.characters(exclude_categories=[]))


def _defined(*parts: str) -> UUID:
    return uuid5(_NAMESPACE, json.dumps(list(parts), separators=(",", ":")))


@given(st.uuids(), _TEXT)
def test_a_message_is_named_by_its_conversation_and_its_own_name(
    conversation: UUID, native: str
) -> None:
    """Whatever the name holds, and in whatever case the conversation is written."""
    expected = _defined("message", str(conversation), native)
    assert message_id(conversation, native) == expected
    assert message_id(str(conversation).upper(), native) == expected


@given(st.uuids(), _TEXT, _TEXT, _TEXT)
def test_a_conversation_and_a_project_are_named_by_whose_and_where(
    owner: UUID, source: str, machine: str, name: str
) -> None:
    """Nobody's id is another's."""
    who = str(owner)
    defined = _defined("conversation", who, source, machine, name, "")
    assert conversation_id(who.upper(), source, machine, name) == defined
    assert project_id(owner, machine, name) == _defined("project", who, machine, name)
