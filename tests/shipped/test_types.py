"""The JavaScript clients as TypeScript sees them."""

from __future__ import annotations

import re

import pytest
from pydantic import BaseModel

from conv_realtime.events import (
    DATA_TYPES,
    ConversationData,
    DeletedConversationData,
    DeletedData,
    FileData,
    MessageData,
    ProjectData,
)
from conv_realtime.models import ConversationSummary
from tests.node import JS
from tests.shipped.declarations import VIEWER, compiler, generate

TYPES = (VIEWER / "types.d.ts").read_text()


@pytest.mark.node
def test_the_modules_hold_what_their_comments_say() -> None:
    """TypeScript agrees with every line of them, and the declarations are the ones beside them."""
    for name, text in generate().items():
        assert (VIEWER / name).read_text() == text, "python -m tests.shipped.declarations"


@pytest.mark.node
def test_users_get_types_from_both_versions_of_supabase_js() -> None:
    """What is right compiles, and what is wrong does not."""
    compiler("-p", JS / "types")


@pytest.mark.parametrize(
    ("interface", "model"),
    [
        ("Conversation", ConversationData),
        ("ConversationSummary", ConversationSummary),
        ("Message", MessageData),
        ("Deleted", DeletedData),
        ("DeletedConversation", DeletedConversationData),
        ("Project", ProjectData),
        ("FileUpdate", FileData),
    ],
)
def test_rows_have_the_fields_of_the_protocol(interface: str, model: type[BaseModel]) -> None:
    """The interface of TypeScript has the names of the Python model."""
    found = re.search(rf"export interface {interface} \{{(.*?)\n\}}", TYPES, re.DOTALL)
    assert found is not None
    assert set(re.findall(r"^  (\w+)\??:", found[1], re.MULTILINE)) == set(model.model_fields)


def test_all_types_of_events_are_declared() -> None:
    """Every type that can be subscribed to has a name in TypeScript."""
    found = re.search(r"export type DataType =(.*?);", TYPES, re.DOTALL)
    assert found is not None
    assert re.findall(r'"(\w+)"', found[1]) == list(DATA_TYPES)
