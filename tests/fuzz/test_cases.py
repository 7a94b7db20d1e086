"""What a fuzzer found once does not come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from conv_realtime.testing.formats.examples import built_in
from tests.fuzz.reading import CASES, FORMATS, read


@pytest.mark.parametrize("source", FORMATS)
def test_examples_and_all_that_was_ever_found_are_read(source: str, tmp_path: Path) -> None:
    """To their ends, and their rows can be stored."""
    finds = [path.read_bytes() for path in sorted((CASES / source).glob("*"))]
    examples = [state for example in built_in(source) for state in example.states]
    for data in (*examples, *finds):
        read(source, data, tmp_path)
