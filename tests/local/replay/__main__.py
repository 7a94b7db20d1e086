"""`python -m tests.local.replay`: see the package."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.local.replay.captures import CAPTURES
from tests.local.replay.run import Played, chosen, play_all


def main(arguments: Sequence[str] | None = None) -> int:
    """Plays flows; gives 1 where one differs in what is not recorded, or no more in what is."""
    parser = argparse.ArgumentParser(prog="python -m tests.local.replay", description=__doc__)
    parser.add_argument("flows", nargs="*", metavar="FLOW", help="such as broadcast; default: all")
    parser.add_argument("--captures", type=Path, default=CAPTURES, metavar="DIR")
    asked = parser.parse_args(arguments)
    if not asked.captures.is_dir():
        parser.error(f"there are no captures in {asked.captures}; say where with --captures")
    try:
        captures = chosen(asked.captures, asked.flows)
    except ValueError as error:
        parser.error(str(error))
    good = True

    def tell(played: Played) -> None:
        nonlocal good
        sys.stdout.write(f"{played}\n")
        good = good and played.good

    asyncio.run(play_all(captures, tell))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
