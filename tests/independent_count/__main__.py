"""python -m tests.independent_count FOLDER [--check] [--files]

Counts conversations, messages, tool calls, tokens and unreadable lines of every transcript below
a folder, without the library. `--check` compares with what the library states of the same files,
and ends with 1 where the two differ. A line is a folder, with `--files` a file.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.independent_count.counting import Count, count

_COLUMNS = ("conversations", "messages", "tool calls", "tokens", "naive sum", "skipped")


@dataclass(frozen=True)
class Line:
    """One file: its format, what was counted, and what the library says, if it was asked."""

    path: Path
    source: str
    counted: Count
    stated: Count | None = None

    @property
    def verdict(self) -> str:
        """Whether the library says the same."""
        if self.stated is None:
            return "not asked"
        if not self.stated.conversations and self.counted.conversations:
            return "not read"
        same = replace(self.stated, naive=self.counted.naive) == self.counted
        return "equal" if same else f"differs: {self.stated}"


def paths(folder: Path) -> list[Path]:
    """Return the files below a folder that can be transcripts."""
    found = folder.rglob("*") if folder.is_dir() else ()
    return sorted(path for path in found if path.suffix in (".jsonl", ".json", ".md"))


def line_of(path: Path, *, check: bool) -> Line | None:
    """Return what is counted of a file, None where it is of no format known here."""
    source, counted = count(path)
    if not source:
        return None
    if not check:
        return Line(path, source, counted)
    from tests.independent_count.library import state

    return Line(path, source, counted, state(path)[1])


def table(folder: Path, found: Sequence[Line], *, files: bool) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    groups: defaultdict[str, list[Line]] = defaultdict(list)
    for line in found:
        place = line.path.relative_to(folder)
        kept = len(place.parts) if files else 3 if place.parts[0] == "other-fixtures" else 1
        groups["/".join(place.parts[:kept])].append(line)
    yield f"| transcripts | files | {' | '.join(_COLUMNS)} | library |"
    yield "|---|" + "---:|" * (1 + len(_COLUMNS)) + "---|"
    for name, group in groups.items():
        numbers = [
            len(group),
            *map(sum, zip(*(asdict(x.counted).values() for x in group), strict=True)),
        ]
        verdicts = Counter(line.verdict for line in group)
        told = " | ".join(f"{number:,}" for number in numbers)
        said = ", ".join(f"{n} {what}" if n < len(group) else what for what, n in verdicts.items())
        yield f"| `{name}` | {told} | {said} |"


def main() -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.independent_count")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="compare with the library")
    parser.add_argument("--files", action="store_true", help="a line for each file")
    asked = parser.parse_args()
    asks = (line_of(path, check=asked.check) for path in paths(asked.folder))
    found = [line for line in asks if line is not None]
    print("\n".join(table(asked.folder, found, files=asked.files)))
    return int(any(line.verdict.startswith("differs") for line in found))


if __name__ == "__main__":
    raise SystemExit(main())
