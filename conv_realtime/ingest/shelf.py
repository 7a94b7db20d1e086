"""The transcripts that were found: who states which conversation, and who is skipped and why."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath

from conv_realtime.core.checkpoint import FileStat
from conv_realtime.core.document import DatabaseFormat, DocumentFormat, Export
from conv_realtime.core.format import GLANCE_BYTES, HEAD_BYTES, Format, Head, LogFormat, Recognised
from conv_realtime.core.formats.recognise import recognise
from conv_realtime.core.ownership import Candidate, choose_owner
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.edges import disk
from conv_realtime.edges.checkpoints import Remembered
from conv_realtime.edges.sqlite import LOG_SUFFIX
from conv_realtime.errors import SourceError
from conv_realtime.ingest.blame import blaming
from conv_realtime.ingest.book import Book, ConversationKey
from conv_realtime.ingest.claims import Claims

FIRST_BYTES = 8 * 2**10
"""How much of a file is read to tell what it is, before more is: nearly always its first line."""


class Shelf:
    """Every transcript by path, and by the conversation that it states.

    Args:
        formats: what files may be, in the order in which they claim one.
        sanitizer: cleans what they are said to be.
        usual: where assistants usually write: nothing there is of a format that is asked last.

    Attributes:
        claims: which document states which conversation.
        resting: files that are judged and acknowledged as they are, and alone in what they state.
            They have no book until somebody asks for it.
    """

    def __init__(
        self, formats: Sequence[Format], sanitizer: Sanitizer, usual: Collection[str] = ()
    ) -> None:
        self.formats = formats
        self._usual = tuple(os.path.join(place, "") for place in usual)
        self.claims = Claims()
        self._sanitizer = sanitizer
        self.checkpoints = Remembered()
        self.books: dict[str, Book] = {}
        self.resting: set[str] = set()
        self._by_key: dict[ConversationKey, set[str]] = {}
        self._judged: dict[ConversationKey, dict[str, FileStat]] = {}
        self._owed: set[ConversationKey | str] = set()
        self._likely: Format | None = None  # has the file asked for last: most are of one kind

    def book(self, path: str) -> Book:
        """Return the book of a path, a new one where there is none. May be called on any thread."""
        found = self.books.get(path)
        if found is None:
            found = self.books.setdefault(path, Book(path))
            if path in self.resting:
                self.resting.discard(path)
                self._recall(found)
        return found

    def knows(self, path: str) -> bool:
        """Return whether a file of this path was found before."""
        return path in self.books or path in self.resting

    def owners(self) -> list[Book]:
        """Return the books that state a conversation of their own."""
        books = list(self.books.values())  # more may be found meanwhile, on a thread
        return [book for book in books if book.key and book.owner is None]

    def faulty(self) -> set[str]:
        """Return the files that could not be read when they were last looked at."""
        return {book.path for book in list(self.books.values()) if book.fault is not None}

    def owe(self, path: str) -> list[str]:
        """Note that listeners are to be told all that a file states, which could not be read.

        Returns:
            The files that may state it instead, itself among them.
        """
        checkpoint = self.checkpoints.get(path)
        known = checkpoint.known if checkpoint is not None else None
        key = self.book(path).key or (known and (known.source, known.session, known.agent))
        self._owed.add(key or path)
        return list(self._by_key.get(key, ())) if key else [path]

    def owes(self, book: Book) -> bool:
        """Return whether listeners are to be told all that a file states."""
        return book.key in self._owed or book.path in self._owed

    def settle_debt(self, book: Book) -> None:
        """Take note that it is told."""
        self._owed -= {book.key or book.path, book.path}

    def is_named(self, path: str) -> bool:
        """Return whether a file of this path can be a transcript of any format."""
        if self._likely is not None and self._likely.is_named(path):
            return True
        self._likely = next((form for form in self.formats if form.is_named(path)), None)
        return self._likely is not None

    def subject(self, path: str) -> str:
        """Return the file that a change of `path` is one of: a database has a log beside it."""
        whole = path.removesuffix(LOG_SUFFIX)
        if whole != path and any(
            isinstance(form, DatabaseFormat) and form.is_named(whole) for form in self.formats
        ):
            return whole
        return path

    def form(self, path: str) -> Format:
        """Return the format of a file that was recognised once.

        Raises:
            SourceError: it cannot be read, or is none any more.
        """
        book = self.recognise(path, resting=True)
        if book.form is None:
            raise SourceError(path, "it is no transcript any more")
        return book.form

    def rest(self, stats: Mapping[str, FileStat], but: Collection[str]) -> None:
        """Take of these files as resting those that can be, in one go, `but` some."""
        found = self.checkpoints.unchanged(stats).difference(self.books, but)
        for path in self.resting.intersection(stats) - found:
            self.book(path)  # it has changed
        self.resting |= found

    def recall(self, path: str, stat: FileStat) -> bool:
        """Take what a file is from its checkpoint, where it has not changed since.

        Returns:
            Whether it is judged and acknowledged as it is.
        """
        checkpoint, book = self.checkpoints.get(path), self.book(path)
        if checkpoint is None or checkpoint.stat != stat or book.follower is not None:
            return False
        self._recall(book)
        self._wake_others(book)
        return book.key is not None

    def _recall(self, book: Book) -> None:
        checkpoint = self.checkpoints.get(book.path)
        known = checkpoint.known if checkpoint is not None else None
        if book.recognised is None and known is not None:
            named = (form for form in self.formats if form.is_named(book.path))
            form = next((form for form in named if form.source == known.source), None)
            if form is not None:
                self._file(book, form, known)

    def remember(self, checkpoints: Remembered) -> None:
        """Take what an earlier run has come to, and nothing of what was known."""
        self.checkpoints = checkpoints
        self.resting.clear()

    def is_alone(self, path: str) -> bool:
        """Return whether no other file is known to state the same conversation."""
        key = self.book(path).key
        return key is not None and len(self._by_key[key]) == 1

    def _file(self, book: Book, form: Format, known: Recognised) -> None:
        book.form, book.recognised = form, known
        key = known.source, known.session, known.agent
        self._by_key.setdefault(key, set()).add(book.path)

    def _wake_others(self, book: Book) -> None:
        """Give a book to files at rest that state the same: they are not alone any more."""
        if self.resting and book.key is not None:
            for path in self.resting.intersection(self.checkpoints.stating(book.key)):
                self.book(path)

    def _clean(self, known: Recognised) -> Recognised:
        """Return what is kept of a file: the ids as they stand in its rows."""
        id, agent = self._sanitizer.id, known.agent
        return replace(known, session=id(known.session), agent=agent and id(agent))

    def recognise(self, path: str, *, resting: bool) -> Book:
        """Read what a file is from its first bytes, once it can be told.

        Raises:
            SourceError: it cannot be read.
        """
        book = self.book(path)
        if book.recognised is None:
            with disk.open_file(path) as file:
                if not resting and file.stat() == book.looked_at:
                    return book
                book.looked_at = file.stat()
                found = self._tell(file, resting=resting)
            if isinstance(found, tuple):
                self._file(book, found[0], self._clean(found[1]))
                self._wake_others(book)
            else:
                book.recognised = found
        return book

    def _tell(
        self, file: disk.OpenFile, *, resting: bool
    ) -> tuple[Format, Recognised] | str | None:
        """Return what a file is, by as few bytes as that takes."""
        found: tuple[Format, Recognised] | str | None = None
        for some in (FIRST_BYTES, GLANCE_BYTES, HEAD_BYTES):
            data = file.read(0, some)
            whole = not file.read(len(data), 1)
            head = Head(data, whole=whole, resting=resting)
            with blaming(file.path):
                found = recognise(self._asked(file.path), PurePath(file.path), head)
            if found is not None or whole:
                break
        return found

    def _asked(self, path: str) -> Sequence[Format]:
        first = [form for form in self.formats if not form.asked_last]
        if path.startswith(self._usual):
            return first
        return [*first, *(form for form in self.formats if form.asked_last)]

    def settle_owner(self, book: Book) -> str | None:
        """Decide who states this book's conversation; return whom it took over from, if so.

        Sets `owner` of every file that states the same.
        """
        key = book.key
        group = self._logs(key)
        if key is None:
            book.owner = None
            return None
        if isinstance(book.form, DocumentFormat):
            # Each of its conversations finds its owner by itself; where its format became a log,
            # the log goes on.
            book.owner = next((path for path in sorted(group) if disk.stat(path)), None)
            return None
        if len(group) < 2:
            book.owner = None
            return None if book.path in self.checkpoints else self._left_behind(key)
        present = {path: stat for path in group if (stat := disk.stat(path)) and stat.size}
        if not present:
            return None
        current = next((path for path in sorted(group) if path in self.checkpoints), None)
        current = current or self._left_behind(key)
        if self._judged.get(key) != present:
            self._judged[key] = present
            owner = choose_owner(self._candidates(present), current, _continues).path
            for path in group:
                self.book(path).owner = None if path == owner else owner
        # Whichever of them was looked at first: who states it now goes on where that one was.
        return current if book.owner is None and current != book.path else None

    def may_overlap(self, book: Book) -> bool:
        """Return whether other documents may state conversations of this one."""
        return isinstance(book.form, Export) or (
            book.key is not None and len(self._by_key[book.key]) > 1
        )

    def _logs(self, key: ConversationKey | None) -> set[str]:
        """Return the logs of a session: documents never own what a log states."""
        paths = tuple(self._by_key.get(key, ())) if key else ()  # which a thread may add to
        return {path for path in paths if isinstance(self.book(path).form, LogFormat)}

    def _left_behind(self, key: ConversationKey) -> str | None:
        """Return the log that stated a conversation in an earlier run, if no file is there now."""
        for former in self.checkpoints.stating(key):
            if former in self.checkpoints and disk.stat(former) is None:
                forms = (form for form in self.formats if form.source == key[0])
                named = next((form for form in forms if form.is_named(former)), None)
                if isinstance(named, LogFormat):
                    return former
        return None

    def _candidates(self, present: dict[str, FileStat]) -> Collection[Candidate]:
        return [
            # What is packed is no longer than any that is not: of both, the plain one is in use.
            Candidate(
                path,
                0 if disk.is_packed(path) else stat.size,
                isinstance(known, Recognised) and known.named,
            )
            for path, stat in present.items()
            if (known := self.book(path).recognised) is not None
        ]


def _continues(larger: Candidate, smaller: Candidate) -> bool:
    """Return whether the larger file begins with all of the smaller one's bytes."""
    try:
        with disk.open_file(larger.path) as one, disk.open_file(smaller.path) as other:
            return one.crc(smaller.size) == other.crc(smaller.size)
    except SourceError:
        return False
