"""Random actions on files, restarts and outages: the store ends in what the files say."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.ingest import Ingest
from conv_realtime.ingest.follow import Follower
from conv_realtime.models import Message
from conv_realtime.testing import MemoryStore
from tests.ingest.folding import CLAUDE, IDENTITY, read_all, rows
from tests.ingest.lines import SESSION, assistant, says, user

_new_lines = st.lists(st.integers(0, 3), min_size=1, max_size=3)


class FileActions(RuleBasedStateMachine):
    """A transcript that is written, cut, rewritten, moved and lost, and an ingest beside it.

    `said` is what a reader of the file must find live in the store: the newest content of each
    conversation part that the file has been.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.state = self.folder / "state"
        self.path = self.folder / "projects" / "-p" / f"{SESSION}.jsonl"
        self.path.parent.mkdir(parents=True)
        self.store = _Mortal()
        self.runner = asyncio.Runner()
        self.ingest: Ingest | None = None
        self.count = 0
        self.content = b""
        self.highest: dict[UUID, int] = {}

    def teardown(self) -> None:
        self._close()
        self.runner.close()
        shutil.rmtree(self.folder)

    # What happens to the file ----------------------------------------------------------------

    def _lines(self, responses: list[int]) -> bytes:
        made = []
        for response in responses:
            self.count += 1
            name = f"n{self.count}"
            if response == 0:
                made.append(user(name))
            else:
                made.append(assistant(name, f"msg_{response}", says(f"part {self.count}")))
        return b"".join(made)

    def _write(self, content: bytes) -> None:
        self.content = content
        self.path.write_bytes(content)

    @initialize(responses=_new_lines)
    def begin(self, responses: list[int]) -> None:
        """A session's first prompt is always there, so that its parts can be told."""
        self._write(user("first") + self._lines(responses))

    @rule(responses=_new_lines)
    def append(self, responses: list[int]) -> None:
        """The usual case."""
        self._write(self.content + self._lines(responses))

    @rule(responses=_new_lines)
    def replace_by_a_longer_copy(self, responses: list[int]) -> None:
        """An editor or a synchroniser writes a new file and moves it into place."""
        self.content += self._lines(responses)
        draft = self.folder / "draft"
        draft.write_bytes(self.content)
        draft.replace(self.path)

    @rule(keep=st.integers(1, 5))
    def cut(self, keep: int) -> None:
        """The file loses its end, down to some whole lines."""
        self._write(b"".join(self.content.splitlines(keepends=True)[:keep]))

    @rule(responses=_new_lines)
    def rewrite(self, responses: list[int]) -> None:
        """Everything but the first prompt is replaced."""
        self._write(user("first") + self._lines(responses))

    @rule()
    def empty(self) -> None:
        """Some hooks truncate the file: that deletes nothing."""
        self.path.write_bytes(b"")

    @rule()
    def vanish(self) -> None:
        """Claude Code deletes old transcripts: that deletes nothing."""
        self.path.unlink(missing_ok=True)

    @rule()
    def come_back(self) -> None:
        """What was emptied or deleted is there again."""
        self.path.write_bytes(self.content)

    # What happens to the reader --------------------------------------------------------------

    @rule()
    def read(self) -> None:
        """The ingest reads what is there, as at a wake-up with the file at rest."""
        self._backfill()

    @rule()
    def restart(self) -> None:
        """The process ends and another one begins."""
        self._close()

    @rule(where=st.integers(0, 6))
    def die_while_sending(self, where: int) -> None:
        """The process is killed after some requests have reached the database."""
        self.store.lives = where
        try:
            self._backfill()
        except* KilledError:
            pass
        self.store.lives = None
        self._close()

    # What must hold --------------------------------------------------------------------------

    @precondition(lambda self: self.path.exists() and self.path.stat().st_size > 0)
    @rule()
    def the_store_has_what_the_file_says(self) -> None:
        """Live messages of the conversation are exactly the file's, with their content."""
        self._backfill()
        follower = Follower(str(self.path), CLAUDE, IDENTITY, Sanitizer())
        read_all(follower, self.path)
        (conversation,), expected = rows(follower, self.path)
        live = {
            row.id: _content(row)
            for row in self.store.messages.values()
            if row.deleted_at is None and row.conversation_id == conversation.id
        }
        assert live == {row.id: _content(row) for row in expected}
        kept = self.store.conversations[conversation.id]
        assert kept.message_count == conversation.message_count
        assert kept.output_tokens == conversation.output_tokens

    @precondition(lambda self: self.path.exists() and self.path.stat().st_size > 0)
    @rule()
    def reading_again_changes_nothing(self) -> None:
        """A second look, and one after a restart, write no row."""
        self._backfill()
        assert self._backfill().changed == 0
        self._close()
        assert self._backfill().changed == 0

    @invariant()
    def a_row_never_goes_back(self) -> None:
        """No message has a lower revision than it ever had."""
        now = {id: row.revision for id, row in self.store.messages.items()}
        assert all(now[id] >= revision for id, revision in self.highest.items())
        self.highest = now

    # The ingest ------------------------------------------------------------------------------

    def _backfill(self) -> Any:
        return self.runner.run(self._read_once())

    async def _read_once(self) -> Any:
        if self.ingest is None:
            self.ingest = await Ingest(
                store=self.store,
                state_dir=self.state,
                owner_id=IDENTITY.owner_id,
                machine=IDENTITY.machine,
            ).__aenter__()
        return await self.ingest.backfill([self.folder / "projects"])

    def _close(self) -> None:
        if self.ingest is not None:
            self.runner.run(self.ingest.__aexit__(None, None, None))
            self.ingest = None


class KilledError(BaseException):
    """The process ends here."""


class _Mortal(MemoryStore):
    """A store during whose calls the process can be killed, before or after they take effect."""

    lives: int | None = None

    async def write(self, *args: Any, **kwargs: Any) -> int:
        """Write, unless the process has ended before; it may end right after."""
        if self.lives is not None:
            self.lives -= 1
            if self.lives < 0:
                raise KilledError
        written = await super().write(*args, **kwargs)
        if self.lives == 0:
            raise KilledError  # written, but nobody has heard of it
        return written


def _content(row: Message) -> dict[str, Any]:
    return row.model_dump(include={"seq", "role", "text", "content", "usage", "created_at"})


TestFileActions = FileActions.TestCase
TestFileActions.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
