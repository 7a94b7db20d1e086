"""Aider: everything that was on its screen, as Markdown, in a repository's history file.

Appended by every run; a run is a conversation, named by the file, when the run began, and which of
that second it is. Lines of a kind in a row are one message, named by its place:

* `#### ` with two spaces at the end is typed by a person: a model's headings have none. What
  cleans a repository's files cuts spaces off: without them on a run's first prompt, each is one;
* `> ` is what Aider says, or what a command printed: a message of the system;
* all else is the answer.

Times are the machine's local ones, without saying so, and taken for UTC. A file of this name lies
in the repository, so it is read only where it, or a folder above, is given by path.

Evidence: `aider/io.py` of Aider-AI/aider at 5dc9490bb, and its authors' own history.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any
from zlib import crc32

from conv_realtime.core.conversation_fold import ConversationFold, Entry
from conv_realtime.core.fields import amount, count, time
from conv_realtime.core.format import Claim, Head, LogFormat, Recognised
from conv_realtime.core.framing import Line
from conv_realtime.core.records import TOO_LONG, Record, Torn
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.core.transcript import LogTranscript
from conv_realtime.models import Role

SOURCE = "aider"
_FILE = ".aider.chat.history.md"
_RUN = re.compile(r"# aider chat started at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\s*")
_MODEL = re.compile(r"> (?:Models?|Main model): ([^\s,]+)")
_TOKENS = re.compile(r"> Tokens: ([\d,]{1,15}) sent, ([\d,]{1,15}) received")  # "2.1k" is no count
_COST = re.compile(r"Cost: \$([\d.]{1,15}) (?:message|request|send)")
_PREFIX: Mapping[Role, str] = {"user": "####", "system": ">"}


class Aider(LogFormat):
    """Aider's chat histories."""

    source = SOURCE
    title = "Aider"

    def is_named(self, path: str) -> bool:
        """Return whether the file has Aider's name."""
        return path.endswith(_FILE)

    def claim(self, path: PurePath, head: Head) -> Claim:
        """Return the file as its own, by its name, once anything is in it."""
        if not head.data.strip():
            return "unsure"
        return Recognised(SOURCE, path.as_posix(), named=True)

    def transcript(self, path: PurePath, sanitizer: Sanitizer) -> LogTranscript:
        """Return the fold of a history."""
        return AiderTranscript(path, sanitizer)


class AiderTranscript(LogTranscript):
    """The fold of one history; its threads are the runs."""

    source = SOURCE

    def __init__(self, path: PurePath, sanitizer: Sanitizer) -> None:
        super().__init__(sanitizer)
        self._path = path.as_posix()
        self._folder = self.name(path.parent.as_posix())
        self.session = self._run = self.id(self._path)
        self._begun: dict[str, int] = {}  # how many runs, by when they began
        self._cut: bool | None = None  # whether prompts of the run lost the spaces at their end
        self._open: tuple[Role, str] | None = None  # the message that goes on
        self._end = 0

    def split(self, line: Line) -> Iterator[Record | Torn]:
        """Yield the line, with its indentation."""
        if line.data is None:
            yield Torn(line.start, line.end, TOO_LONG)
            return
        end, raw = line.mark[0], line.raw
        yield Record(end - len(raw), end, crc32(raw), line.mark, self.load(raw))

    def load(self, data: bytes) -> dict[str, Any]:
        """Return the line that `data` is."""
        return {"line": data.decode("utf-8", "replace").rstrip("\r")}

    def is_whole(self, data: bytes) -> bool:
        """Return that a last line is not: any line can go on."""
        return False

    def add(self, record: Record) -> None:
        """Take the next line."""
        line = str(record.fields["line"])
        if (found := _RUN.fullmatch(line)) is not None:
            self._begin_run(found[1])
            self._end = record.end
            self.fold(self._run).saw_record(record.end, time(found[1]))
            return
        role = self._role(line)
        fold = self.fold(self._run)
        fold.saw_record(record.end, None)
        # Prompts that were typed one after the other stand apart; the parts of one do not.
        goes_on = self._open is not None and self._open[0] == role
        if not goes_on or (role == "user" and record.start > self._end + 1):
            self._open = role, f"@{record.start}"
        assert self._open is not None
        entry = self.put(fold, record, self._open[1], role)
        self.note_secrets(entry, [{"type": "text", "text": line}])
        self._end = record.end
        self._note(fold, entry, line)

    def message_fields(self, entry: Entry, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what a message's lines say together, as columns of its row."""
        lines: list[str] = []
        end = entry.spans[0][0]
        for (start, last, *_), fields in zip(entry.spans, records, strict=True):
            lines += [""] * (start > end + 1)  # blank lines make no records
            lines.append(_said(str(fields["line"]), entry.role))
            end = last
        said = "\n".join(lines).strip("\n")
        content = self.clean([{"type": "text", "text": said}])
        costs = [cost for fields in records if (cost := _cost(str(fields["line"])))]
        return {
            "role": entry.role,
            "text": content[0]["text"],
            "content": content,
            "model": entry.model,
            "created_at": None,
            "usage": dict(entry.usage) or None,
            "metadata": {"cost_usd": round(sum(costs), 6)} if costs else {},
        }

    def fold(self, thread: str | None = None, agent: str | None = None) -> ConversationFold:
        """Return the conversation of a run."""
        found = super().fold(thread, agent)
        if found.session is None:
            found.session = thread
            found.cwd = found.project_path = self._folder
        return found

    def _begin_run(self, begun: str) -> None:
        number = self._begun[begun] = self._begun.get(begun, 0) + 1
        again = f" #{number}" if number > 1 else ""
        self._run = self.id(f"{self._path} {begun}{again}")
        self._open = self._cut = None

    def _role(self, line: str) -> Role:
        """Return who says a line; the first prompt of a run comes before any answer."""
        if line.startswith("####"):
            if line.endswith("  "):
                self._cut = False
                return "user"
            self._cut = self._cut is not False
            if self._cut and line[4:5] in ("", " "):
                return "user"
        return "system" if line.startswith(">") else "assistant"

    def _note(self, fold: ConversationFold, entry: Entry, line: str) -> None:
        """Take what a line says of its conversation."""
        if entry.role == "assistant":
            entry.model = fold.model
            fold.is_at("active", "waiting")
        elif entry.role == "user":
            prompt = _said(line, "user").strip()
            if prompt and not prompt.startswith("/") and "prompt" not in fold.titles:
                fold.titles["prompt"] = self.shortened(prompt)
            fold.is_at("active", "working")
        elif (found := _MODEL.match(line)) is not None:
            fold.model = self.name(found[1])
        elif (found := _TOKENS.match(line)) is not None:
            sent, received = (count(int(part.replace(",", "") or 0)) for part in found.groups())
            fold.count_tokens(entry, {"input_tokens": sent or 0, "output_tokens": received or 0})


def _said(line: str, role: Role) -> str:
    prefix = _PREFIX.get(role)
    return line.removeprefix(prefix).removeprefix(" ").rstrip() if prefix else line


def _cost(line: str) -> float | None:
    found = _COST.search(line) if line.startswith("> Tokens:") else None
    try:
        return amount(float(found[1])) if found else None
    except ValueError:
        return None
