"""What ingest makes of a file, read as it grows, into a store without a database."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from uuid import UUID, uuid5

from conv_realtime.core.format import Format
from conv_realtime.core.formats import BUILT_IN
from conv_realtime.ingest import Ingest, blame
from conv_realtime.models import NAMESPACE, Conversation, Message, Skipped
from conv_realtime.settings import Settings
from conv_realtime.testing.memory_store import MemoryStore

OWNER = uuid5(NAMESPACE, "testing")
MACHINE = "testing"
_MEMORY = Path("/dev/shm")
_BEGUN = 1_750_000_000
"""When a file is last written, in its first state; seconds. Each later state is a second younger:
a clock that is too coarse to tell two writes apart is not what is checked."""


@dataclass
class Stated:
    """The rows that came of a file, by id.

    Attributes:
        skips: what was skipped when it was read last.
        written: how many rows the last read wrote.
        raised: what the format raised, of which ingest made an error of the file.
    """

    conversations: dict[UUID, Conversation] = field(default_factory=dict)
    messages: dict[UUID, Message] = field(default_factory=dict)
    skips: Sequence[Skipped] = ()
    written: int = 0
    raised: BaseException | None = None

    @property
    def live(self) -> Stated:
        """The same without messages that were taken back."""
        standing = {id: row for id, row in self.messages.items() if row.deleted_at is None}
        return Stated(self.conversations, standing, self.skips)


@contextmanager
def folder() -> Iterator[Path]:
    """Give an empty folder, always the same: some ids are made of a file's path.

    In memory where there is some: hundreds of files are written in turn.
    """
    parent = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir()).resolve()
    place = parent / f"conv_realtime-{os.getpid()}-{threading.get_ident()}"
    place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place)


class _Kept(logging.Handler):
    """Keeps the exceptions that are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.errors.append(record.exc_info[1])


@contextmanager
def _raised() -> Iterator[list[BaseException]]:
    """Give what formats raise within the block, as it is raised."""
    handler = _Kept()
    level = blame.logger.level
    blame.logger.setLevel(logging.DEBUG)
    blame.logger.addHandler(handler)
    try:
        yield handler.errors
    finally:
        blame.logger.removeHandler(handler)
        blame.logger.setLevel(level)


@cache
def _settings() -> Settings:
    return Settings.load(owner_id=OWNER, machine=MACHINE)


class Reading:
    """Reads one file into one store, again and again.

    Args:
        form: reads it.
        folder: an empty one.
        name: the file's path in a folder of transcripts.
    """

    def __init__(self, form: Format, folder: Path, name: str) -> None:
        self.store = MemoryStore()
        self.path = folder / "transcripts" / name
        self.path.parent.mkdir(parents=True)
        self._forms = [] if form.source in {known.source for known in BUILT_IN} else [form]
        self._settings = _settings().model_copy(
            update={"paths": [folder / "transcripts"], "state_dir": folder / "state"}
        )
        self._writes = 0

    async def read(self, states: Iterable[bytes], *, restart: bool = False) -> Stated:
        """Write one state after the other, read each, and return what the store has in the end.

        With `restart` each is read by a new process, as it were.
        """
        last = Stated()
        runs = [[data] for data in states] if restart else [list(states)]
        with _raised() as raised:
            for run in runs:
                async with Ingest(
                    store=self.store, formats=self._forms, settings=self._settings
                ) as ingest:
                    for data in run:
                        self._write(data)
                        summary = await ingest.backfill()
                        last = Stated(skips=summary.skips, written=summary.changed)
        last.conversations, last.messages = (
            dict(self.store.conversations),
            dict(self.store.messages),
        )
        last.raised = next(iter(raised), None)
        return last

    def _write(self, data: bytes) -> None:
        """Bring the file to its next state: by appending where that does it, else in one of the
        two ways in which programs rewrite a file."""
        known = self.path.read_bytes() if self.path.exists() else b""
        if data.startswith(known):
            with self.path.open("ab") as file:
                file.write(data[len(known) :])
        elif self._writes % 2:
            self.path.write_bytes(data)
        else:
            other = self.path.with_name(self.path.name + "~")
            other.write_bytes(data)
            other.replace(self.path)
        self._writes += 1
        os.utime(self.path, (_BEGUN + self._writes, _BEGUN + self._writes))
