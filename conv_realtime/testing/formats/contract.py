"""What every transcript format holds to, checked by example.

    class TestMine(testing.FormatContract):
        format = MyFormat()
        examples = {"session.jsonl": b'{"chat": 1, …}\\n…'}

or `testing.check_format(MyFormat(), {"session.jsonl": …})`, which does the same in one call.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from random import Random
from typing import ClassVar
from uuid import UUID

from conv_realtime.core.format import HEAD_BYTES, Claim, Format, Head, Machine, Recognised
from conv_realtime.core.formats import BUILT_IN
from conv_realtime.core.formats.recognise import recognise
from conv_realtime.models import Conversation, Message
from conv_realtime.testing.formats.examples import Example, Given, built_in, examples_of
from conv_realtime.testing.formats.reading import Reading, Stated, folder
from conv_realtime.testing.formats.spoiling import (
    SECRET_LETTERS,
    cuts,
    spoiled,
    with_noise,
    with_secrets,
)
from conv_realtime.testing.formats.well_formed import faults, odd_blocks

SEED = 5
"""What is cut and spoiled follows from this: a failure is there again in the next run."""

SPOILED = 48
SECRETS = 16

_SOURCE = re.compile(r"[a-z][a-z0-9_]{1,39}")
_MACHINES = (
    Machine(PurePosixPath("/home/ada"), {}, "linux"),
    Machine(PurePosixPath("/Users/ada"), {}, "darwin"),
    Machine(
        PureWindowsPath("C:/Users/ada"),
        {
            "APPDATA": "C:\\Users\\ada\\AppData\\Roaming",
            "LOCALAPPDATA": "C:\\Users\\ada\\AppData\\Local",
        },
        "win32",
    ),
)


def check_format(form: Format, examples: Given) -> None:
    """Check that a transcript format holds to the contract.

    Args:
        form: the format.
        examples: transcripts of it, contents by path (`{"project/session.jsonl": b"…"}`; a list
            of contents for a file that is rewritten whole, oldest first) or a folder of them.

    Raises:
        AssertionError: it does not; the message says which example, what was done to it, and
            what came of it.
        ValueError: there is no example.
        RuntimeError: an event loop is running; call it on a thread of its own.
    """
    contract = type("Contract", (FormatContract,), {"format": form, "examples": examples})()
    for name in CHECKS:
        getattr(contract, name)()


class FormatContract:
    """Tests of one format, for pytest: a subclass named `Test…` sets `format` and `examples`."""

    format: ClassVar[Format]
    examples: ClassVar[Given]

    # What a format says of itself ----------------------------------------------------------------

    def test_it_is_named_for_ever(self) -> None:
        """`source` is part of every id, and `title` is for people."""
        if not _SOURCE.fullmatch(self.format.source):
            self._fail(f"source {self.format.source!r} is not lower case letters, digits and _")
        if not self.format.title.strip():
            self._fail("it has no title")

    def test_its_places_are_absolute_on_every_system(self) -> None:
        """They follow from the machine alone, and are the same when asked again."""
        for machine in _MACHINES:
            places = list(self.format.places(machine))
            if places != list(self.format.places(machine)):
                self._fail(f"places() on {machine.platform} differ when asked again")
            for place in places:
                if not isinstance(place, PurePath) or not place.is_absolute():
                    self._fail(f"places() on {machine.platform}: {place} is not absolute")

    # Whose a file is -----------------------------------------------------------------------------

    def test_its_files_are_its_own_from_their_first_bytes(self) -> None:
        """However little of a file is there, it is claimed or waited for, never given away; and
        once it is claimed, more of it changes nothing."""
        for example in self._examples:
            path = _path(example)
            if not self.format.is_named(str(path)):
                self._fail(f"{example.name}: is_named says no")
            claimed = [self._claimed(example, path, state) for state in example.states]
            if any(claim is None for claim in claimed):
                self._fail(f"{example.name}: claim() does not claim it")
            if len({(claim.session, claim.agent) for claim in claimed if claim}) > 1:
                self._fail(f"{example.name}: a later state of it is claimed as another session")

    def test_it_claims_no_others(self) -> None:
        """Asked before the others, as one's own is, it leaves each of their examples to them."""
        known = any(form.source == self.format.source for form in BUILT_IN)
        forms = BUILT_IN if known else (self.format, *BUILT_IN)
        for form in BUILT_IN:
            for example in built_in(form.source):
                found = recognise(forms, _path(example), _head(example.whole))
                claimed = found[1].source if isinstance(found, tuple) else found
                if claimed != form.source:
                    self._fail(f"{example.name} of {form.title} is taken for {claimed}")

    # What a file states --------------------------------------------------------------------------

    def test_its_rows_can_be_stored(self) -> None:
        """Roles, tokens, states, times and texts are what the database takes and readers know."""
        for example in self._examples:
            stated = _stated(self.format, example, example.states)
            self._check(example, "read at once", stated)
            if not stated.live.messages:
                self._fail(f"{example.name}: states no message")
            odd = next(odd_blocks(stated), None)
            if odd is not None:
                self._fail(f"{example.name}: {odd}")

    def test_any_growth_ends_in_the_same_rows(self) -> None:
        """Read in any pieces, a file states what it states when read at once."""
        self._grow(restart=False)

    def test_a_restart_anywhere_changes_nothing(self) -> None:
        """The same, by a new process for each piece."""
        self._grow(restart=True)

    def test_read_again_nothing_changes(self) -> None:
        """A file that is read once more writes no row."""
        for example in self._examples:
            for restart in (False, True):
                states = [*example.states, example.whole]
                again = _stated(self.format, example, states, restart=restart)
                if again.written:
                    self._fail(f"{example.name}: read again, {again.written} rows were written")

    def test_later_records_revise_no_identity(self) -> None:
        """A message that is there keeps its id, its place and its conversation."""
        for example in self._examples:
            if not example.appended:
                continue
            known: dict[UUID, Message] = {}
            for end in _line_ends(example.whole):
                stated = _stated(self.format, example, [example.whole[:end]])
                for id, before in known.items():
                    now = stated.messages.get(id)
                    if now is None or now.seq != before.seq or now.revision < before.revision:
                        self._fail(
                            f"{example.name}: the message {before.text[:60]!r} at {before.seq}"
                            f" is {'gone' if now is None else 'another'} when it is read up to"
                            f" byte {end}"
                        )
                known = dict(stated.messages)

    # Bad days ------------------------------------------------------------------------------------

    def test_nothing_that_is_in_a_file_stops_it(self) -> None:
        """Torn, mixed with other bytes, with odd values in every place: it is read to its end, and
        every row can be stored."""
        for example in self._examples:
            for how, data in spoiled(example.whole, Random(SEED), SPOILED):
                stated = _stated(self.format, example, [data])
                # What is spoilt enough may be another's.
                source = next((row.source for row in stated.conversations.values()), None)
                self._check(example, f"where {how}", stated, source)

    def test_what_is_no_record_is_counted(self) -> None:
        """A line that says nothing is skipped with its place, or it is part of what is said."""
        for example in self._examples:
            if not example.appended:
                continue
            texts = _texts(_stated(self.format, example, [example.whole]))
            for place, data in with_noise(example.whole, Random(SEED)):
                stated = _stated(self.format, example, [data])
                skipped = any(skip.offset is not None and skip.offset - place in (0, 1)
                              for skip in stated.skips)  # fmt: skip
                if not skipped and _texts(stated) == texts:
                    self._fail(f"{example.name}: what is no record at {place} is not told of")

    def test_no_secret_leaves_a_file(self) -> None:
        """Wherever one stands, in a name, a title, a command, in what a tool gave back: no part of
        it is in a row."""
        for example in self._examples:
            for place, data in with_secrets(example.whole, Random(SEED), SECRETS):
                stated = _stated(self.format, example, [data])
                rows = (*stated.conversations.values(), *stated.messages.values())
                if SECRET_LETTERS.decode() in "".join(row.model_dump_json() for row in rows):
                    behind = example.whole[max(0, place - 40) : place]
                    self._fail(f"{example.name}: its rows hold the secret behind {behind!r}")

    # Steps ---------------------------------------------------------------------------------------

    @property
    def _examples(self) -> list[Example]:
        return examples_of(self.examples)

    def _grow(self, *, restart: bool) -> None:
        for example in self._examples:
            random = Random(SEED)
            once = _stated(self.format, example, [example.whole])
            for steps in _growths(example, random, most=8 if restart else 24):
                grown = _stated(self.format, example, steps, restart=restart)
                how = f"read in {len(steps)} pieces" + (", each by a new process" * restart)
                self._check(example, how, grown)
                found = _difference(once, grown, same=example.appended)
                if found:
                    self._fail(f"{example.name}, {how}: {found}")

    def _claimed(self, example: Example, path: PurePath, state: bytes) -> Recognised | None:
        """Return what a state of a file is claimed as, however much of it is there."""
        first: Recognised | None = None
        for end in [*cuts(state, Random(SEED)), len(state)]:
            claim = _claim(self.format, path, state[:end])
            first = self._judge_claim(example, end, claim, first)
        return first

    def _judge_claim(
        self, example: Example, end: int, claim: Claim, first: Recognised | None
    ) -> Recognised | None:
        where = f"{example.name}, its first {end} bytes: claim() says"
        if claim is None:
            self._fail(f"{where} it is not its own")
        if not isinstance(claim, Recognised):
            if first is not None:
                self._fail(f"{where} {claim!r}, and knew with fewer")
            return first
        if claim.source != self.format.source or not claim.session:
            self._fail(f"{where} {claim}")
        if first is not None and (claim.session, claim.agent) != (first.session, first.agent):
            self._fail(f"{where} {claim}, and {first} with fewer")
        return claim

    def _check(self, example: Example, how: str, stated: Stated, source: str | None = None) -> None:
        if stated.raised is not None:
            _fail(self.format, f"{example.name} {how}: {stated.raised!r}", stated.raised)
        wrong = next(faults(source or self.format.source, stated), None)
        if wrong is not None:
            self._fail(f"{example.name} {how}: {wrong}")

    def _fail(self, what: str) -> None:
        _fail(self.format, what)


CHECKS = [name for name in vars(FormatContract) if name.startswith("test_")]


def _fail(form: Format, what: str, cause: BaseException | None = None) -> None:
    raise AssertionError(f"{form.source}: {what}") from cause


def _path(example: Example) -> PurePath:
    return PurePosixPath("/transcripts") / example.name


def _head(data: bytes) -> Head:
    return Head(data[:HEAD_BYTES], whole=len(data) <= HEAD_BYTES, resting=True)


def _claim(form: Format, path: PurePath, data: bytes) -> Claim:
    return form.claim(path, _head(data))


def _stated(
    form: Format, example: Example, states: Iterable[bytes], *, restart: bool = False
) -> Stated:
    with folder() as place:
        reading = Reading(form, place, example.name)
        return asyncio.run(reading.read(states, restart=restart))


def _line_ends(data: bytes) -> list[int]:
    return [place + 1 for place, byte in enumerate(data) if byte == 10]


def _growths(example: Example, random: Random, most: int) -> Iterator[Sequence[bytes]]:
    """Yield ways in which a file may come to its newest state."""
    if example.appended:
        yield [example.whole[:end] for end in cuts(example.whole, random, most)]
        return
    yield example.states
    steps = list(example.states)
    for before, after in pairwise(example.states):
        # Half written, then whole, then back, then whole again.
        half = after[: random.randrange(len(after))]
        steps += [before, half, after, before]
    yield [*steps, example.whole]


def _difference(once: Stated, grown: Stated, *, same: bool) -> str | None:
    """Return how rows differ from those of one read, None where they do not.

    What was rewritten counts revisions on, and keeps what it took back; it is not the `same`.
    """
    left = {"revision"} if not same else set()
    if not same:
        grown = grown.live
    for kind in ("conversations", "messages"):
        expected, found = getattr(once, kind), getattr(grown, kind)
        for id in expected.keys() | found.keys():
            one, other = expected.get(id), found.get(id)
            if one is None or other is None:
                row = one or other
                return f"{_shown(row)} is {'missing' if other is None else 'one too many'}"
            before, after = one.to_row(), other.to_row()
            for name in before:
                if name not in left and before[name] != after[name]:
                    return (
                        f"{_shown(one)}: {name} is {after[name]!r}, read at once {before[name]!r}"
                    )
    return None


def _shown(row: Conversation | Message) -> str:
    if isinstance(row, Message):
        return f"the {row.role} message at {row.seq} ({row.text[:40]!r})"
    return f"the conversation {row.session_id!r}" + (
        f", agent {row.agent_id!r}" * bool(row.agent_id)
    )


def _texts(stated: Stated) -> list[tuple[str, str]]:
    live = sorted(
        stated.live.messages.values(), key=lambda row: (str(row.conversation_id), row.seq)
    )
    return [(row.role, row.text) for row in live]
