"""Which of several copies states a conversation."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from conv_realtime.core.ownership import Candidate, choose_owner


def _never(_larger: Candidate, _smaller: Candidate) -> bool:
    return False


def _always(_larger: Candidate, _smaller: Candidate) -> bool:
    return True


def test_the_file_named_like_the_session_owns_it() -> None:
    """A copy under another name is a copy, however large, unless it continues the original."""
    files = [Candidate("a", 900, named=False), Candidate("b", 10, named=True)]
    assert choose_owner(files, None, _never).path == "b"


def test_else_the_largest_and_then_the_first_path() -> None:
    """Without a name to go by, the most complete copy states the conversation."""
    files = [Candidate("c", 10, False), Candidate("b", 20, False), Candidate("a", 20, False)]
    assert choose_owner(files, None, _never).path == "a"


def test_an_owner_stays_while_it_exists() -> None:
    """A new copy changes nothing, so rows do not flip between files."""
    files = [Candidate("a", 20, False), Candidate("b", 10, False)]
    assert choose_owner(files, "b", _never).path == "b"


def test_a_copy_that_outgrows_its_owner_takes_over() -> None:
    """The same conversation grown further elsewhere is followed there."""
    files = [Candidate("a", 10, True), Candidate("b", 20, False)]
    assert choose_owner(files, "a", _always).path == "b"


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=6),
    st.integers(0, 99),
)
def test_the_choice_does_not_depend_on_the_order(files: list[tuple[int, bool]], seed: int) -> None:
    """A fresh backfill chooses the same files whatever order the disk lists them in."""
    candidates = [Candidate(f"f{i}", size, named) for i, (size, named) in enumerate(files)]
    shuffled = random.Random(seed).sample(candidates, len(candidates))
    assert choose_owner(shuffled, None, _always) == choose_owner(candidates, None, _always)
