"""The shared log against a model that keeps everything."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conv_realtime.core.envelope import subject_of
from conv_realtime.core.log import Entry, Log
from conv_realtime.core.selection import Selection
from conv_realtime.models import Change, Conversation, Message, Project
from tests.relay import hosted
from tests.relay.rows import changed, conversation, created, message, project

actions = st.lists(st.one_of(st.integers(0, 6), st.just("other"), st.just("gap")), max_size=80)


@settings(deadline=None)
@given(actions, st.integers(1, 12))
def test_going_on_from_a_cursor_misses_nothing(steps: list[object], kept: int) -> None:
    """From any cursor ever given the log gives every later change, or says it cannot."""
    log = Log(kept, 10**9)
    told: list[int] = []  # every change, by number
    given_out: list[tuple[str, int, int]] = []  # cursor, changes before it, stream
    stream = 0
    log.mark("s0.0")
    given_out.append(("s0.0", 0, 0))
    for step in steps:
        if step == "gap":
            stream += 1
            log.begin_anew()
            log.mark(f"s{stream}.0")
            given_out.append((f"s{stream}.0", len(told), stream))
        elif step == "other":
            log.append(Entry(None, log.cursor, 0))
        else:
            assert isinstance(step, int)
            before = log.cursor
            for number in range(step):
                told.append(len(told))
                (change,) = created(message(seq=len(told) - 1))
                last = number == step - 1
                cursor = f"s{stream}.{len(told)}" if last else before
                log.append(Entry(subject_of(change), cursor, 0, change=change))
                given_out.append((cursor, len(told) if last else len(told) - 1 - number, stream))
            if step:
                log.mark(f"s{stream}.{len(told)}")
    assert log.head - log.first <= kept
    for cursor, before_it, its_stream in given_out:
        index = log.find(cursor)
        if index is None:
            continue
        assert its_stream == stream
        got = [
            entry.event.data.seq  # type: ignore[union-attr]
            for entry in log.read(index, log.head)
            if entry.subject is not None
        ]
        assert set(told[before_it:]) <= set(got)
        assert got == sorted(got)
    assert log.find(log.cursor) is not None or not log.cursor


steps = st.lists(
    st.tuples(
        st.sampled_from(["talk", "other", "one", "two", "three"]),
        st.sampled_from(["new", "update", "update", "gone", "event"]),
        st.integers(0, 5),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(steps, st.data())
def test_each_row_is_told_once_as_it_is_by_then(
    steps: list[tuple[str, str, int]], data: st.DataObject
) -> None:
    """Whoever has what was before ends in the same rows, by all of a window or by each row once.

    Some revisions come late: a feed may tell twice of what it has told of as newer.
    """
    log = Log(1000, 10**9)
    for number, (name, kind, late) in enumerate(steps, 1):
        revision = max(1, number - late)
        columns: dict[str, Any] = {"deleted_at": "2026-01-02T03:04:05Z" if kind == "gone" else None}
        if name in ("talk", "other"):
            row: Any = conversation(name, revision=revision, **columns)
        else:
            seq, talk = ("one", "two", "three").index(name), conversation("talk")
            row = message(name, seq, talk, revision=revision, **columns)
        if kind == "event":
            log.append(Entry(None, "s.0", 0))
        else:
            change = Change(row, kind == "new")
            log.append(Entry(subject_of(change), f"s.{number}", 0, change=change))
    since, until = sorted(data.draw(st.tuples(*[st.integers(0, len(steps))] * 2)))
    step = data.draw(st.integers(1, 7))
    told: list[Any] = [
        entry.event
        for at in range(since, until, step)
        for entry in log.told_once(at, min(at + step, until), since, until)
        if entry.is_for(Selection()) and entry.subject is not None
    ]
    before, everything = (_events(log, *some) for some in ((0, since), (since, until)))
    assert _state([*before, *told]) == _state([*before, *everything])
    ids = [event.data.id for event in told if not event.type.endswith("_deleted")]
    assert len(set(ids)) == len(ids)
    appeared = {event.data.id for event in everything if event.type.startswith("new_")}
    assert appeared >= {event.data.id for event in told if event.type.startswith("new_")}


def _events(log: Log, start: int, stop: int) -> list[Any]:
    entries = [entry for entry in log.read(start, stop) if not entry.erased]
    return [entry.event for entry in entries if entry.subject is not None]


def _state(events: Sequence[Any]) -> dict[object, int]:
    """Return the revisions of the rows that stand; a deletion may be of a row that nobody knew."""
    state: dict[object, tuple[int, bool]] = {}
    for event in events:
        if event.data.revision >= state.get(event.data.id, (0, False))[0]:
            state[event.data.id] = (event.data.revision, event.type.endswith("_deleted"))
    return {id: revision for id, (revision, gone) in state.items() if not gone}


def test_the_newest_cursor_is_found_after_the_log_was_trimmed() -> None:
    """Events come and go; the head is always covered, the forgotten past never."""
    log = Log(3, 10**9)
    for number in range(5000):
        (change,) = created(message(seq=number))
        log.append(Entry(subject_of(change), f"s.{number}", 0, change=change))
        log.mark(f"s.{number}")
        assert log.find(f"s.{number}") == log.head
        if number >= 4:
            assert log.find(f"s.{number - 3}") == log.first
            assert log.find(f"s.{number - 4}") is None


def test_an_idle_stream_costs_no_memory() -> None:
    """Cursors that move on without events are all covered, by two marks."""
    log = Log(10, 10**9)
    for number in range(1000):
        log.mark(f"s.{number}")
    assert len(log._marks) == 2
    assert {log.find(f"s.{number}") for number in range(1000)} == {log.head}


def test_bytes_bound_the_log_too() -> None:
    """Large rows shorten it, but the newest is always there."""
    log = Log(100, 10_000)
    for number in range(50):
        (change,) = created(message("x" * 2000, seq=number))
        log.append(Entry(subject_of(change), f"s.{number}", 0, change=change))
    assert log.head - log.first == 1
    assert log.read(log.first, log.head)[0].event.data.seq == 49  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "row",
    [
        message(content=[{"type": "tool_use", "input": {"content": ["x" * 4000]}}]),
        message(content=[0] * 1000),
        message(metadata={"x" * 4000: True}),
        conversation(title="x" * 4000),
        project(metadata={"x": ["x" * 4000]}),
    ],
)
def test_all_that_a_row_holds_counts(row: Conversation | Message | Project) -> None:
    """Not its text alone: what a tool was given, metadata, names."""
    log = Log(100, 20_000)
    for number in range(50):
        (change,) = changed(row)
        log.append(Entry(subject_of(change), f"s.{number}", 0, change=change))
    assert log.head - log.first == 1


def test_what_a_host_broadcasts_counts_too() -> None:
    """An event that was made ready, and not of a row."""
    log = Log(100, 20_000)
    for _ in range(50):
        log.append(Entry(None, "s.1", 0, event=hosted.event("x" * 4000)))
    assert log.head - log.first == 1


def test_an_update_is_superseded_by_a_newer_one_of_its_conversation_alone() -> None:
    """Only conversation_update collapses, and only the older of one conversation."""
    log = Log(100, 10**9)
    changes = [
        *created(conversation("a", revision=1)),
        *changed(conversation("a", revision=2), conversation("b", revision=2)),
        *changed(message(of=conversation("a")), conversation("a", revision=3)),
    ]
    entries = [Entry(subject_of(change), "s.1", 0, change=change) for change in changes]
    for entry in entries:
        log.append(entry)
    assert [entry.superseded for entry in entries] == [False, True, False, False, False]


def test_an_update_is_not_superseded_by_one_that_says_less() -> None:
    """Whoever reads late would keep the lower revision."""
    log = Log(100, 10**9)
    changes = changed(*(conversation("a", revision=revision) for revision in (2, 1, 3)))
    entries = [Entry(subject_of(change), "s.1", 0, change=change) for change in changes]
    for entry in entries:
        log.append(entry)
    assert [entry.superseded for entry in entries] == [True, False, False]


def test_an_update_is_superseded_by_the_deletion_of_its_conversation() -> None:
    """A deletion is superseded by nothing: the row that comes back after it is another event."""
    log = Log(100, 10**9)
    gone = conversation("a", revision=3, deleted_at="2026-01-02T03:04:05Z")
    updates = [conversation("a", revision=revision) for revision in (2, 3)]
    entries = [
        Entry(subject_of(change), "s.1", 0, change=change)
        for change in changed(updates[0], gone, updates[1], gone)
    ]
    for entry in entries:
        log.append(entry)
    assert [entry.superseded for entry in entries] == [True, False, True, False]


def test_behind_a_gap_revisions_may_be_lower() -> None:
    """A database that was restored goes on below what it had: that is told, also by a replay."""
    log = Log(100, 10**9)
    for number, revision in enumerate((9, 4, 5, 3, 6)):
        if number == 2:
            log.begin_anew()
        (change,) = changed(conversation("a", revision=revision))
        log.append(Entry(subject_of(change), "s.1", 0, change=change))
    entries = log.read(0, log.head)
    assert [entry.is_for(Selection()) for entry in entries] == [True, False, True, False, True]
    assert [entry.revision for entry in log.told_once(2, 5, 2, 5)] == [6]


def test_a_deletion_that_comes_late_erases_nothing() -> None:
    """Who comes back gets what is newer than it."""
    log = Log(100, 10**9)
    gone = conversation("a", revision=5, deleted_at="2026-01-02T03:04:05Z")
    for change in (*created(conversation("a", revision=6)), *changed(gone)):
        log.append(Entry(subject_of(change), "s.1", 0, change=change))
    assert [entry.erased for entry in log.read(0, 2)] == [False, False]
    assert [entry.revision for entry in log.told_once(0, 2, 0, 2)] == [6]


def test_what_has_left_the_log_is_not_held_in_memory() -> None:
    """The bound in bytes is one on memory: long messages go at once and not a thousand later."""
    log = Log(10_000, max_bytes=100_000)
    rows: list[weakref.ref[object]] = []
    for number in range(500):
        (change,) = created(message("x" * 10_000, number))
        rows.append(weakref.ref(change.row))
        log.append(Entry(subject_of(change), "s.0", 0, change=change))
    del change
    assert sum(row() is not None for row in rows) == log.head - log.first == 3
