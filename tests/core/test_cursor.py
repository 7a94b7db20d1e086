"""Cursors: parsed back, and in reading order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conv_realtime.core.cursor import Cursor, parse_cursor

positions = st.lists(st.integers(0, 2**63), min_size=1, max_size=4).map(tuple)


@settings(deadline=None)
@given(st.from_regex(r"[0-9a-f]{16}", fullmatch=True), positions)
def test_a_cursor_survives_its_text(stream: str, position: tuple[int, ...]) -> None:
    """What is written is read back."""
    cursor = Cursor(stream, position)
    assert parse_cursor(str(cursor)) == cursor


@settings(deadline=None)
@given(positions, positions)
def test_positions_compare_as_numbers_from_the_left(
    one: tuple[int, ...], other: tuple[int, ...]
) -> None:
    """A whole transaction stands before the rows that are read within it."""
    assert Cursor("s", one).reaches(Cursor("s", other)) == (one >= other)
    assert not Cursor("s", one).reaches(Cursor("t", other))


@pytest.mark.parametrize("text", ["", "s", "s.", ".1", "s.x", "s.1-", "s.-1", "a.b.1", "s.1\n"])
def test_what_is_no_cursor_is_none(text: str) -> None:
    """Other forms are refused, not guessed."""
    assert parse_cursor(text) is None
