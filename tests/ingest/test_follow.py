"""One file, followed: any split of its bytes ends in the same rows."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conv_realtime.core.checkpoint import Checkpoint
from conv_realtime.edges.disk import OpenFile
from conv_realtime.ingest.follow import Follower, Verdict
from conv_realtime.ingest.rows import RewrittenError
from conv_realtime.models import Conversation, Message
from tests.ingest.folding import CLAUDE, IDENTITY, follow, read_all, state, stated
from tests.ingest.lines import SESSION, assistant, calls, line, result, says, user, uuid
from tests.samples import claude_transcripts, growth_snapshots

_names = st.integers(0, 5)
_line = st.one_of(
    st.builds(lambda n, t: user(n, t, at=n), _names, st.text(max_size=20)),
    st.builds(lambda n, r: assistant(n, f"msg_{r}", says(f"part {n}")), _names, _names),
    st.builds(lambda n, r: assistant(n, f"msg_{r}", calls(f"t{n}")), _names, _names),
    st.builds(lambda n: user(f"r{n}", [result(f"t{n}")]), _names),
    st.builds(
        lambda n, p: user(f"s{n}", isSidechain=True, parentUuid=uuid(f"s{p}")), _names, _names
    ),
    st.builds(lambda n: line("summary", n, summary=f"sum {n}", leafUuid=uuid(n), uuid=...), _names),
    st.builds(lambda n: line("progress", n, at=n), _names),
    st.sampled_from([b"\n", b"not json\n", b'{"torn":\n', b"\x00\x00\n", b'{"type":"x"}{"a":1}\n']),
)
_file = st.lists(_line, max_size=14).map(b"".join)
_cuts = st.lists(st.integers(0, 4000), max_size=6)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for files that are written over and over."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def _edges(data: bytes, cuts: list[int]) -> list[int]:
    return sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})


@given(_file, _cuts)
@settings(deadline=None)
def test_any_split_of_the_bytes_ends_in_the_same_rows(
    folder: Path, data: bytes, cuts: list[int]
) -> None:
    """Reading a file while it grows gives what reading it at once gives, in every column."""
    grown, whole = folder / f"{SESSION}.jsonl", folder / "whole" / f"{SESSION}.jsonl"
    whole.parent.mkdir(exist_ok=True)
    whole.write_bytes(data)
    grown.write_bytes(b"")
    follower = follow(grown)
    for start, end in itertools.pairwise(_edges(data, cuts)):
        with grown.open("ab") as file:
            file.write(data[start:end])
        read_all(follower, grown)
    once = follow(whole)
    read_all(once, whole)
    assert state(follower, grown) == state(once, whole)
    assert follower.end == once.end


@given(_file, _cuts, st.integers(1, 4), st.sampled_from([1, 200, 10**6]))
@settings(deadline=None)
def test_batches_together_are_the_whole(
    folder: Path, data: bytes, cuts: list[int], most: int, size: int
) -> None:
    """Whatever the batches' limits and wherever the process is killed, the last row sent of each
    id is the row that the whole file states, and a row never goes back."""
    path = folder / f"{SESSION}.jsonl"
    path.write_bytes(b"")
    sent: dict[object, Conversation | Message] = {}
    checkpoint = Checkpoint()
    for start, end in itertools.pairwise(_edges(data, cuts)):
        with path.open("ab") as file:
            file.write(data[start:end])
        follower = Follower(str(path), CLAUDE, IDENTITY, follow(path)._sanitizer, checkpoint)
        read_all(follower, path)
        with OpenFile(str(path)) as opened:
            while batch := follower.next_batch(follower.sent, opened, most, size):
                assert len(batch.messages) == len({row.id for row in batch.messages})
                _take(sent, [*batch.stubs, *batch.messages, *batch.totals])
                follower.acknowledge(batch)
        checkpoint = follower.checkpoint
        assert checkpoint.position == follower.end[0]
    conversations, messages = stated(path) if data.endswith(b"\n") else ([], [])
    rest: dict[object, Conversation | Message] = {row.id: row for row in conversations}
    rest.update((row.id, row) for row in messages)
    assert {id: row.to_row() for id, row in sent.items()} == {
        id: row.to_row() for id, row in rest.items()
    }


def test_records_are_found_again_wherever_they_lie(tmp_path: Path) -> None:
    """Rows are made of what is read ahead, also of records that are longer than that, and of
    messages whose lines lie far apart."""
    texts = {n: f"{n} " + "x" * size for n, size in enumerate([9, 70_000, 3, 50_000, 200_000, 9])}
    told = [assistant(n, "msg_far" if n in (0, 5) else f"m{n}", says(t)) for n, t in texts.items()]
    path = tmp_path / f"{SESSION}.jsonl"
    path.write_bytes(b"".join(told))
    _, messages = stated(path)
    assert [row.text for row in messages] == [
        "\n\n".join([texts[0], texts[5]]), *(texts[n] for n in range(1, 5))
    ]  # fmt: skip


def _take(sent: dict[object, Conversation | Message], rows: list[Conversation | Message]) -> None:
    for row in rows:
        known = sent.get(row.id)
        if known is None or row.revision >= known.revision:
            sent[row.id] = row


@pytest.mark.parametrize("snapshots", growth_snapshots(), ids=lambda found: found[0].parent.name)
def test_a_real_file_that_grew_ends_in_the_rows_of_its_last_state(
    snapshots: list[Path], tmp_path: Path
) -> None:
    """Each recorded growth of a real transcript is an append and nothing else."""
    path = tmp_path / snapshots[0].name
    follower = follow(path)
    for snapshot in snapshots:
        path.write_bytes(snapshot.read_bytes())
        read_all(follower, path)
        follower.take_rest()
    conversations, messages = stated(snapshots[-1])
    assert state(follower, path) == [row.to_row() for row in (*conversations, *messages)]


@pytest.mark.parametrize("path", claude_transcripts(), ids=lambda path: path.name)
def test_a_real_file_read_in_odd_pieces_states_the_same(path: Path) -> None:
    """Real transcripts of every generation do not depend on how they are read."""
    follower = follow(path)
    read_all(follower, path, limit=8191)
    whole = follow(path)
    read_all(whole, path)
    assert state(follower, path) == state(whole, path)


def test_a_whole_last_line_counts_at_rest_and_is_not_counted_twice(tmp_path: Path) -> None:
    """It stays unacknowledged, so that after a restart it is read again with its newline."""
    path = tmp_path / f"{SESSION}.jsonl"
    first, last = user("q"), assistant("a", "msg_1").rstrip(b"\n")
    path.write_bytes(first + last)
    follower = follow(path)
    read_all(follower, path)
    assert len(state(follower, path)) == 2
    follower.take_rest()
    at_rest = state(follower, path)
    assert len(at_rest) == 3
    with OpenFile(str(path)) as file:
        batch = follower.next_batch(follower.sent, file, 100, 10**6)
    assert batch is not None
    follower.acknowledge(batch)
    assert follower.checkpoint.position == len(first)
    with path.open("ab") as writer:
        writer.write(b"\n")
    read_all(follower, path)
    assert state(follower, path) == at_rest
    with OpenFile(str(path)) as file:
        batch = follower.next_batch(follower.sent, file, 100, 10**6)
    assert batch is not None and not batch.messages
    follower.acknowledge(batch)
    assert follower.checkpoint.position == len(first + last) + 1


def test_a_torn_last_line_waits_for_the_rest_of_it(tmp_path: Path) -> None:
    """Half a line is no record, at rest neither, and complete it is one."""
    path = tmp_path / f"{SESSION}.jsonl"
    text = user("q")
    path.write_bytes(text[:40])
    follower = follow(path)
    read_all(follower, path)
    follower.take_rest()
    assert state(follower, path) == []
    skipped = follower.unread_rest()
    assert skipped is not None and skipped.offset == 0
    with path.open("ab") as writer:
        writer.write(text[40:])
    read_all(follower, path)
    assert len(state(follower, path)) == 2


def test_bytes_changed_under_a_row_are_noticed(tmp_path: Path) -> None:
    """A row is never built from other bytes than those that were folded."""
    path = tmp_path / f"{SESSION}.jsonl"
    path.write_bytes(user("q", "one"))
    follower = follow(path)
    read_all(follower, path)
    path.write_bytes(user("q", "two"))
    with OpenFile(str(path)) as file, pytest.raises(RewrittenError):
        follower.next_batch(follower.sent, file, 100, 10**6)


def _judge(follower: Follower, path: Path) -> Verdict:
    with OpenFile(str(path)) as file:
        return follower.judge(file, file.stat())


def test_a_file_is_judged_by_its_content(tmp_path: Path) -> None:
    """Growth, a copy moved into place, and a rewritten file are told apart."""
    path = tmp_path / f"{SESSION}.jsonl"
    path.write_bytes(user("q") + user("r"))
    follower = follow(path)
    read_all(follower, path)
    assert _judge(follower, path) is Verdict.SAME
    copy = tmp_path / "copy"
    copy.write_bytes(path.read_bytes() + user("s"))
    copy.replace(path)
    assert _judge(follower, path) is Verdict.GROWN
    path.write_bytes(user("q") + user("other") + user("s"))
    assert _judge(follower, path) is Verdict.REWRITTEN
    path.write_bytes(b"")
    assert _judge(follower, path) is Verdict.EMPTY


def test_a_checkpoint_that_does_not_fit_the_file_is_noticed(tmp_path: Path) -> None:
    """After a restart the bytes that were acknowledged are compared before anything is sent."""
    path = tmp_path / f"{SESSION}.jsonl"
    path.write_bytes(user("q") + user("r"))
    checkpoint = Checkpoint(position=len(user("q")), crc=1)
    follower = Follower(str(path), CLAUDE, IDENTITY, follow(path)._sanitizer, checkpoint)
    with OpenFile(str(path)) as file, pytest.raises(RewrittenError):
        follower.read(file)
    assert state(follower, path) == []
