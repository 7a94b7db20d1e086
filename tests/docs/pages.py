"""The pages of this repository: every README.md, as text, blocks, tables and headings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _found() -> Iterator[str]:
    yield "README.md"
    for folder in ("conv_realtime", "tests", "examples"):
        for path in sorted((ROOT / folder).rglob("README.md")):
            if "node_modules" not in path.parts:
                yield str(path.relative_to(ROOT))


PAGES: Mapping[str, str] = {name: (ROOT / name).read_text(encoding="utf-8") for name in _found()}


def blocks(page: str, *languages: str) -> list[str]:
    """Return the contents of a page's blocks in one of `languages`, in their order."""
    # An end looks like the beginning of a block without a language: they are told by turns.
    parts = re.split(r"^```(\w*)\n", PAGES[page], flags=re.M)
    return [parts[i + 1] for i in range(1, len(parts), 4) if parts[i] in languages]


def all_blocks(*languages: str) -> list[tuple[str, str]]:
    """Return the blocks of all pages, each with its page."""
    return [(page, block) for page in PAGES for block in blocks(page, *languages)]


def prose(page: str) -> str:
    """Return a page without its blocks."""
    return re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.M | re.S)


def anchors(page: str) -> set[str]:
    """Return what a link to a heading of a page may say behind its `#`, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table(page: str, head: str) -> dict[str, list[str]]:
    """Return the rows below the table's head that begins with `head`, by their first cell."""
    _, found, rest = PAGES[page].partition(f"\n{head}")
    assert found, f"{page} has no table that begins with {head}"
    rows = rest.split("\n\n", 1)[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    return {row[0].strip("` "): row for row in cells}


def commands(block: str) -> list[str]:
    """Return the lines of a shell block, continued ones joined, without comments."""
    lines = re.sub(r"\\\n\s*", "", block).splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
