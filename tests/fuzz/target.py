"""Fuzzes one format in this process; `python -m tests.fuzz` runs it.

python -m tests.fuzz.target FORMAT CORPUS [options of libFuzzer]
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["conv_realtime.core", "conv_realtime.ingest"]):
    from conv_realtime.testing.formats.reading import folder
    from tests.fuzz.reading import read


def main() -> None:
    """Runs until libFuzzer ends it: at a find, or when its time is over."""
    program, source, *options = sys.argv
    with folder() as place:

        def one(data: bytes) -> None:
            read(source, data, Path(place))

        atheris.Setup([program, *options], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
