"""What a fuzzer found once does not come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.reading import SOURCES, read, seeds


@pytest.mark.parametrize("source", SOURCES)
def test_examples_and_all_that_was_ever_found_are_read(source: str, tmp_path: Path) -> None:
    """To their ends, and their rows can be stored."""
    for data in seeds(source):
        read(source, data, tmp_path)
