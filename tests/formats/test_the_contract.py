"""The contract notices what breaks it, and says what."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from itertools import count
from pathlib import Path, PurePath, PurePosixPath
from typing import Any
from uuid import uuid4

import pytest

from conv_realtime import ConfigError, Format, Head, JsonLines, Machine, Said, testing
from conv_realtime.core.conversation_fold import Entry
from conv_realtime.core.format import Claim
from conv_realtime.core.framing import Line
from conv_realtime.core.json_lines import JsonLinesTranscript
from conv_realtime.core.records import Record, Torn
from conv_realtime.core.sanitize import Sanitizer, storable
from conv_realtime.edges.formats import GROUP, known_formats

EXAMPLES = Path(__file__).parents[2] / "examples"
_SAYS = [("me", "hi"), ("parrot", "hi hi"), ("me", "bye"), ("parrot", "bye bye")]
EXAMPLE = {
    "one.parrot": b"".join(
        json.dumps({"by": by, "says": says, "in": "/home/ada", "tokens": 3}).encode() + b"\n"
        for by, says in _SAYS
    )
}


class Parrot(JsonLines):
    """A format as users write it, which holds to the contract."""

    source, title, suffix = "parrot", "Parrot", ".parrot"

    def session(self, path: PurePath, records: Sequence[Mapping[str, Any]]) -> str | None:
        return path.stem if "says" in records[0] else None

    def said(self, fields: Mapping[str, Any]) -> Said | None:
        if "says" not in fields:
            return None
        return Said("assistant" if fields.get("by") == "parrot" else "user", str(fields["says"]))


class _Nameless(Parrot):
    title = ""


class _Loud(Parrot):
    source = "Parrot 2"


class _Nearby(Parrot):
    def places(self, machine: Machine) -> Sequence[PurePath]:
        return [PurePosixPath(".parrot")]


class _Impatient(Parrot):
    def claim(self, path: PurePath, head: Head) -> Claim:
        return super().claim(path, head) if head.records else None


class _Moody(Parrot):
    def session(self, path: PurePath, records: Sequence[Mapping[str, Any]]) -> str | None:
        return f"{path.stem} {len(records)}"


class _Greedy(Parrot):
    def is_named(self, path: str) -> bool:
        return True

    def session(self, path: PurePath, records: Sequence[Mapping[str, Any]]) -> str | None:
        return path.stem


class _Whimsical(Parrot):
    def said(self, fields: Mapping[str, Any]) -> Said | None:
        return Said("user", str(fields.get("says")), native=str(uuid4()))


class _Counting(Parrot):
    numbers = count()

    def said(self, fields: Mapping[str, Any]) -> Said | None:
        return Said("user", f"{next(self.numbers)} {fields.get('says')}")


class _Silent(Parrot):
    def said(self, fields: Mapping[str, Any]) -> Said | None:
        return None


class _Own(Parrot):
    """Whose transcript is another one."""

    kind: type[JsonLinesTranscript]

    def transcript(self, path: PurePath, sanitizer: Sanitizer) -> JsonLinesTranscript:
        return self.kind(self, path, sanitizer)


class _Unclean(_Own):
    class kind(JsonLinesTranscript):
        def message_fields(
            self, entry: Entry, records: Sequence[Mapping[str, Any]]
        ) -> dict[str, Any]:
            stated = super().message_fields(entry, records)
            return {
                **stated,
                "text": str(records[-1].get("says")),
                "metadata": {"raw": records[-1]},
            }


class _Telling(_Own):
    class kind(JsonLinesTranscript):
        def message_fields(
            self, entry: Entry, records: Sequence[Mapping[str, Any]]
        ) -> dict[str, Any]:
            stated = super().message_fields(entry, records)
            return stated | {"metadata": {"said": storable(str(records[-1].get("says")))}}


class _Fragile(_Own):
    class kind(JsonLinesTranscript):
        def add(self, record: Record) -> None:
            record.fields["says"].upper()
            super().add(record)


class _Forgetful(_Own):
    class kind(JsonLinesTranscript):
        def split(self, line: Line) -> Iterator[Record | Torn]:
            return (found for found in super().split(line) if isinstance(found, Record))


class _Spendthrift(_Own):
    class kind(JsonLinesTranscript):
        def add(self, record: Record) -> None:
            super().add(record)
            self.fold().tokens["output_tokens"] += 1


class _Odd(Parrot):
    def said(self, fields: Mapping[str, Any]) -> Said | None:
        return Said("user", [{"type": "tool_use", "id": "1"}])


def test_a_format_that_holds_passes() -> None:
    """In one call, from contents by path and from a folder."""
    testing.check_format(Parrot(), EXAMPLE)


class TestParrot(testing.FormatContract):
    """And as a class of tests."""

    format = Parrot()
    examples = EXAMPLE


@pytest.mark.parametrize(
    ("form", "says"),
    [
        (_Nameless(), "it has no title"),
        (_Loud(), "source 'Parrot 2' is not"),
        (_Nearby(), r"places\(\) on \w+: .parrot is not absolute"),
        (_Impatient(), r"its first \d+ bytes: claim\(\) says it is not its own"),
        (_Moody(), r"its first \d+ bytes: claim\(\) says Recognised\(.* with fewer"),
        (_Greedy(), r"\.jsonl of .* is taken for parrot"),
        (_Whimsical(), r"one\.parrot, read in \d+ pieces: the user message at \d+ .* is "),
        (_Counting(), r"title is '\d+ hi', read at once '\d+ hi'"),
        (_Silent(), "states no message"),
        (_Unclean(), "it holds a NUL|it is no row"),
        (_Telling(), r"its rows hold the secret behind b"),
        (_Fragile(), r"one\.parrot where .*Error\("),
        (_Forgetful(), r"what is no record at \d+ is not told of"),
        (_Spendthrift(), "output_tokens is 4, and its messages' usage adds up to 0"),
        (_Odd(), r"message at \d+: without input, name"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Format) else "",
)
def test_a_format_that_does_not_hold_is_told_why(form: Format, says: str) -> None:
    """The failure names the format, the example, and what came of what."""
    with pytest.raises(AssertionError, match=says) as failure:
        testing.check_format(form, EXAMPLE)
    assert str(failure.value).startswith(f"{form.source}: ")


def test_without_an_example_nothing_can_be_checked(tmp_path: Path) -> None:
    """An empty folder passes for nothing."""
    with pytest.raises(ValueError, match="no example"):
        testing.check_format(Parrot(), tmp_path)


def test_the_example_of_a_format_holds_and_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """`examples/custom_format.py`: what a user copies is right."""
    monkeypatch.syspath_prepend(EXAMPLES)
    form = import_module("custom_format").Parrot
    testing.check_format(form(), EXAMPLE)
    assert len(inspect.getsource(form).splitlines()) < 20


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package on the path that brings a format by its entry point; `entry_points.txt` of it."""
    (tmp_path / "parrots.py").write_text(
        "from conv_realtime import JsonLines\n"
        "class Parrot(JsonLines):\n"
        "    source, title, suffix = 'parrot', 'Parrot', '.parrot'\n"
        "    def session(self, path, records): return path.stem\n"
        "    def said(self, fields): return None\n"
    )
    metadata = tmp_path / "parrots-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: parrots\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "parrots", raising=False)
    return metadata / "entry_points.txt"


def test_an_installed_package_brings_a_format(installed: Path) -> None:
    """By its entry point alone, before ours; nobody has to name it."""
    installed.write_text(f"[{GROUP}]\nparrot = parrots:Parrot\n")
    first = known_formats()[0]
    assert (first.source, type(first).__module__) == ("parrot", "parrots")


@pytest.mark.parametrize("target", ["parrots:Missing", "nowhere:Parrot", "parrots:JsonLines.title"])
def test_a_format_that_cannot_be_loaded_is_a_wrong_setting(installed: Path, target: str) -> None:
    """It is named, instead of left out in silence."""
    installed.write_text(f"[{GROUP}]\nparrot = {target}\n")
    with pytest.raises(ConfigError, match=GROUP):
        known_formats()


def test_two_formats_of_one_name_are_a_wrong_setting(installed: Path) -> None:
    """Their ids would be each other's."""
    installed.write_text(f"[{GROUP}]\nparrot = parrots:Parrot\n")
    with pytest.raises(ConfigError, match="more than one is named 'parrot'"):
        known_formats([Parrot()])
