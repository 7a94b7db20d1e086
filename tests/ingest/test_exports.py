"""Exports of thousands of conversations: where they lie, and what it costs to send them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conv_realtime.core import document
from conv_realtime.core.formats.claude_ai import ClaudeAi
from conv_realtime.core.places import Places
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.edges.disk import OpenFile
from conv_realtime.ingest.follow_document import DocumentFollower
from conv_realtime.ingest.follow_statements import Common
from tests.fuzz.memories import IDENTITY, NoMemories
from tests.ingest.steps import steps
from tests.ingest.weighing import weighed

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
blanks = st.text(" \n\t\r", max_size=9)


def _conversation(number: int, text: str) -> dict[str, Any]:
    message = {"uuid": f"m{number}", "sender": "human", "text": text}
    return {"uuid": f"c{number}", "name": "", "chat_messages": [message]}


@given(st.lists(values, max_size=6), st.lists(blanks, min_size=14, max_size=14), st.booleans())
def test_the_items_of_a_list_lie_where_they_are_found(
    items: list[Any], blank: list[str], escaped: bool
) -> None:
    """However long they are, and whatever stands between them; what is cut off is not whole."""
    between = (f"{blank[2 * n]},{blank[2 * n + 1]}" for n in range(len(items)))
    texts = [json.dumps(item, ensure_ascii=escaped) for item in items]
    joined = "".join(text + comma for text, comma in zip(texts, between, strict=True))
    joined = joined.rstrip(" \n\t\r").removesuffix(",")
    data = f"{blank[12]}[{blank[13]}{joined}{blank[0]}]{blank[1]}".encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document, "_WINDOW_BYTES", 4)
        parts = list(ClaudeAi().parts(data))
        assert [data[start:end].decode() for start, end in parts] == texts
        whole = data.rindex(b"]")
        for end in range(whole + 1):
            with pytest.raises(ValueError):
                list(ClaudeAi().parts(data[:end]))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=40))
def test_places_are_found_where_they_were_put(steps: list[tuple[bool, int]]) -> None:
    """Those of the past lie before all others, in whatever order both come."""
    places, expected = Places(), []
    past, now = -1000, 0
    for number, (is_past, step) in enumerate(steps):
        past, now = (past + step, now) if is_past else (past, now + step)
        places.put(past if is_past else now, str(number))
        expected.append((past if is_past else now, str(number)))
    expected.sort(key=lambda one: one[0])
    for start, end in ((-2000, 2000), (-990, -980), (0, 0), (0, 7), (-995, 5)):
        found = list(places.between(start, end))
        assert found == [one for one in expected if start <= one[0] < end]
    places.keep(lambda one: one[0] % 2 == 0)
    assert list(places.between(-2000, 2000)) == [one for one in expected if one[0] % 2 == 0]


def _steps(conversations: int, folder: Path) -> float:
    """Counts what the interpreter does to send a conversation of an export of so many."""
    path = folder / f"{conversations}.json"
    path.write_text(json.dumps([_conversation(n, "Roses?") for n in range(conversations)]))
    follower = DocumentFollower(str(path), ClaudeAi(), Common(IDENTITY, NoMemories()), Sanitizer())

    def send() -> None:
        follower.adopt(follower.unknown(), {})
        while batch := follower.next_batch(follower.sent, file, 10, 2**20):
            follower.prepare(batch)
            follower.acknowledge(batch)
            follower.unknown()

    with OpenFile(str(path)) as file:
        follower.read(file)
        done = steps(send)
    assert follower.stated == (conversations, conversations)
    return done / conversations


def test_sending_a_conversation_costs_the_same_however_many_there_are(tmp_path: Path) -> None:
    """Nothing is gone through again with each batch."""
    few, many = _steps(100, tmp_path), _steps(800, tmp_path)
    assert many < 1.1 * few


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for its memory")
def test_an_export_costs_its_size_and_little_more(tmp_path: Path) -> None:
    """It is read in one piece, and only one conversation of it is parsed at a time."""
    path = tmp_path / "projects" / "conversations.json"
    path.parent.mkdir()
    path.write_text(json.dumps([_conversation(n, "Roses? " * 20_000) for n in range(500)]))
    size = path.stat().st_size
    weight = weighed(tmp_path)
    os.truncate(path, 0)
    assert len(weight.texts) == 500
    assert weight.grown < 2 * size
