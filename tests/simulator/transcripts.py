"""What programs do to transcripts, done to real files, and told to the model."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from tests.ingest.lines import assistant, calls, line, result, says, user
from tests.simulator.model import Model, Part, Record, Said, Talk

FOLDERS = ("-p", "-q", "-r")

PROMPT, RESULT, STATE, CALL = 0, 4, 5, 6
"""Kinds of records; those between are lines of a response of that number."""


class File:
    """A transcript on disk, and its copies.

    Attributes:
        paths: where it lies; it grows at the first one.
        begun: what is still to be written of a line that was begun.
        away: the file does not lie at its path now, or is empty.
        unsent: what it states may be nowhere but in it.
        unread: it is new to the state directory: at this path, or altogether.
    """

    def __init__(self, root: Path, name: str, model: Model) -> None:
        self._root = root
        self._name = name
        session = str(uuid5(NAMESPACE_OID, name.partition(">")[0]))
        agent = f"s{name.partition('>')[2]}" if ">" in name else None
        self.talk = Talk(session, agent, f"/home/ada/{name[0]}")
        model.talks[name] = self.talk
        self.paths: list[Path] = []
        self.begun: tuple[Record, int] | None = None
        self.away = False
        self.unsent = False
        self.unread = False
        self._count = 0

    @property
    def exists(self) -> bool:
        """Whether it was ever written."""
        return bool(self.paths)

    @property
    def alone(self) -> bool:
        """Whether there is no other file of this conversation."""
        return len(self.paths) == 1

    @property
    def part(self) -> Part:
        """What it is now."""
        return self.talk.part

    # Records -------------------------------------------------------------------------------

    def records(self, kinds: Sequence[int]) -> list[Record]:
        """Return new records of these kinds."""
        return [self._record(kind) for kind in kinds]

    def _record(self, kind: int) -> Record:
        self._count += 1
        name = f"{self._name}.{len(self.talk.parts)}.{self._count}"
        fields: dict[str, Any] = {"session": self.talk.session, "cwd": self.talk.cwd}
        if self._count % 4:  # else of another day: history, which is told of in another way
            fields["timestamp"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        response = f"msg_{self._name}_{len(self.talk.parts)}_{kind % 4}"
        id = str(uuid5(NAMESPACE_OID, name))
        match kind:
            case 0:
                data = user(name, f"prompt {name} v0.", **fields)
                return Record(data, Said(id, "user", f"prompt {name} v0."))
            case 4:
                data = user(name, [result(f"call {name}", f"result {name} v0.")], **fields)
                return Record(data, Said(id, "tool", f"result {name} v0."))
            case 5:
                return Record(line("progress", name, data={"step": name}, **fields))
        tokens = 3 + self._count % 7
        blocks = [says(f"answer {name} v0.")]
        tool = f"call {name}" if kind == CALL else None
        if tool:
            blocks.append(calls(tool))
        usage = {"input_tokens": 3, "output_tokens": tokens}
        data = assistant(name, response, *blocks, usage=usage, **fields)
        return Record(data, Said(response, "assistant", f"answer {name} v0.", tokens, tool))

    # Growing -------------------------------------------------------------------------------

    def append(self, kinds: Sequence[int]) -> None:
        """Write whole lines, the first time a file."""
        self.settle_line()
        if not self.paths:
            self.paths = [self._place(FOLDERS[0])]
            kinds = [PROMPT, *kinds]
        self._grow(self.records(kinds))

    def begin_line(self, kind: int, share: float) -> None:
        """Write a part of a line; whatever comes next writes the rest of it first."""
        self.settle_line()
        record = self._record(kind)
        most = len(record.data) - 2  # not the last brace
        self.begun = record, max(1, min(most, int(len(record.data) * share)))
        self._write_on(record.data[: self.begun[1]])

    def leave_line(self) -> None:
        """Have the writer die in the middle of its line: the next one goes on behind it."""
        if self.begun is not None:
            (record, written), self.begun = self.begun, None
            self.part.records.append(Record(record.data[:written]))

    def append_unended(self, kind: int) -> None:
        """Write a whole line without the newline that ends it.

        Behind what a writer left of a line it gets one: without, it may be a piece of that line,
        and nobody reads it.
        """
        self.settle_line()
        record = self._record(kind)
        if self.part.records and not self.part.records[-1].data.endswith(b"\n"):
            self._grow([record])
            return
        self.part.records.append(Record(record.data[:-1], record.said))
        self._write_on(record.data[:-1])

    def _grow(self, records: Sequence[Record]) -> None:
        self.part.records += records
        self._write_on(b"".join(record.data for record in records))

    def settle_line(self) -> None:
        """Be at the beginning of a line, at a file that is there."""
        self.come_back()
        if self.begun is not None:
            (record, written), self.begun = self.begun, None
            self._write_on(record.data[written:])
            self.part.records.append(record)
        elif self.part.records and self._last_is_unended():
            last = self.part.records[-1]
            self.part.records[-1] = Record(last.data + b"\n", last.said)
            self._write_on(b"\n")

    def _last_is_unended(self) -> bool:
        last = self.part.records[-1]
        return last.said is not None and not last.data.endswith(b"\n")

    def _write_on(self, data: bytes) -> None:
        self.unsent = True
        self.paths[0].parent.mkdir(parents=True, exist_ok=True)
        with self.paths[0].open("ab") as file:
            file.write(data)

    # Rewriting -----------------------------------------------------------------------------

    def cut(self, keep: int, in_place: bool) -> None:
        """Lose the end."""
        self._rewrite(self._first(keep), in_place)

    def rewind(self, keep: int, kinds: Sequence[int], in_place: bool) -> None:
        """Go on from an earlier place."""
        self._rewrite([*self._first(keep), *self.records(kinds)], in_place)

    def edit(self, which: int) -> None:
        """Change a record in place; not a byte is more or less."""
        places = [place for place, record in enumerate(self.part.records) if record.said]
        place = places[which % len(places)]
        old = self.part.records[place]
        assert old.said is not None
        version = int(old.said.text[-2])
        before, after = f" v{version}.", f" v{(version + 1) % 10}."
        said = Said(
            old.said.message,
            old.said.role,
            old.said.text.replace(before, after),
            old.said.tokens,
            old.said.tool,
        )
        new = Record(old.data.replace(before.encode(), after.encode()), said)
        records = [*self.part.records]
        records[place] = new
        self._rewrite(records, in_place=True)

    def bring_back(self, which: int, in_place: bool) -> None:
        """State again what was taken back."""
        known = {_identity(record) for record in self.part.records}
        whole = (record for record in self.part.removed if record.data.endswith(b"\n"))
        lost = [record for record in whole if _identity(record) not in known]
        if lost:
            self._rewrite([*self.part.records, lost[which % len(lost)]], in_place)

    def replace_grown(self, kinds: Sequence[int]) -> None:
        """Write a longer file and move it into place."""
        self.settle_line()
        self.part.records += self.records(kinds)
        self._put(self.part.data, in_place=False)

    def replace_unrelated(self, kinds: Sequence[int], in_place: bool) -> None:
        """Write something else altogether."""
        self.settle_line()
        self.talk.parts.append(Part())
        self.part.records = self.records([PROMPT, *kinds])
        self._put(self.part.data, in_place)

    def rotate(self, kinds: Sequence[int]) -> None:
        """Copy the file away, empty it, and begin again in it."""
        self.settle_line()
        shutil.copy2(self.paths[0], self.paths[0].with_suffix(".jsonl.1"))
        os.truncate(self.paths[0], 0)
        self.talk.parts.append(Part())
        self.part.records = self.records([PROMPT, *kinds])
        self._write_on(self.part.data)

    def _first(self, keep: int) -> list[Record]:
        self.settle_line()
        return self.part.records[: max(1, keep)]

    def _rewrite(self, records: list[Record], in_place: bool) -> None:
        self.settle_line()
        self.part.rewrite(records)
        self._put(self.part.data, in_place)

    def _put(self, data: bytes, in_place: bool) -> None:
        self.unsent = True
        if in_place:
            self.paths[0].write_bytes(data)
        else:
            draft = self._root / f"draft {self._name}"
            draft.write_bytes(data)
            draft.replace(self.paths[0])

    # Places --------------------------------------------------------------------------------

    def vanish(self) -> None:
        """Be deleted."""
        self.settle_line()
        self.paths[0].unlink()
        self.away = True

    def empty(self) -> None:
        """Be truncated to nothing."""
        self.settle_line()
        os.truncate(self.paths[0], 0)
        self.away = True

    def come_back(self) -> None:
        """Be there again, if it was not."""
        if self.away:
            self.away = False
            self.paths[0].write_bytes(self.part.data)

    def move(self) -> None:
        """Get another path."""
        self.settle_line()
        target = self._free_place()
        if target is not None and self.alone:
            self.paths[0].rename(target)
            self.paths[0] = target
            self.unread = True

    def copy(self, linked: bool) -> None:
        """Have a second path, of the same file or of a copy that goes on alone."""
        self.settle_line()
        target = self._free_place()
        if target is None:
            return
        if linked:
            os.link(self.paths[0], target)
            self.paths.append(target)
        else:
            shutil.copy2(self.paths[0], target)
            self.paths.insert(0, target)
        self.unread = True

    def drop_copies(self) -> None:
        """Have one path again."""
        for path in self.paths[1:]:
            path.unlink()
        del self.paths[1:]

    def _free_place(self) -> Path | None:
        for folder in FOLDERS:
            place = self._place(folder)
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                return place
        return None

    def _place(self, folder: str) -> Path:
        place = self._root / "projects" / folder
        if self.talk.agent:
            return place / self.talk.session / "subagents" / f"agent-{self.talk.agent}.jsonl"
        return place / f"{self.talk.session}.jsonl"


def _identity(record: Record) -> bytes:
    """Return what stays the same when a record is edited."""
    return re.sub(rb" v\d\.", b"", record.data)
