"""What a client that comes back hears: each row once, in an order that makes sense."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from conv_realtime.models import Change, Conversation, Message, Row
from conv_realtime.ports import Page
from tests.relay.rows import START, changed, conversation, created, message, project
from tests.relay.serving import Served

SESSIONS = ("one", "two")
PROJECT = project().id


async def test_what_appeared_and_changed_meanwhile_comes_back_once_and_as_new() -> None:
    """Rows as they are now: a conversation before its messages, these where they changed last."""
    async with Served.run() as served:
        known, gone, two = message("known", 1), message("gone", 4), conversation("two")
        grown = message("grown", 2, two)
        served.feed.publish(created(conversation(), known))
        async with served.client() as client:
            since = (await client.next())["data"]["cursor"]
        served.feed.publish(created(two, message("grows", 2, two), gone, message("3", 3, two)))
        served.feed.publish(
            changed(
                known.model_copy(update={"text": "half", "revision": 5}),
                grown.model_copy(update={"revision": 6}),
                conversation("two", revision=7, message_count=1),
                known.model_copy(update={"text": "whole", "revision": 8}),
                gone.model_copy(update={"deleted_at": START, "revision": 9}),
                conversation("two", revision=10, message_count=2),
            )
        )
        async with served.client() as client:
            await client.next()
            await client.say("subscribe", {"since": since})
            await client.got("subscribed")
            told = [(frame["type"], frame["data"]) for frame in await client.sync()]
            # Who goes on from within hears what changed behind that.
            await client.say("subscribe", {"since": told[1][1]["cursor"]})
            await client.got("subscribed")
            rest = [(frame["type"], frame["data"]) for frame in await client.sync()]
            # And who has all of it hears nothing again.
            for data in (told[-1][1], rest[-1][1]):
                await client.say("subscribe", {"since": data["cursor"]})
                await client.got("subscribed")
                assert await client.sync() == []
    assert [(name, data.get("text"), data["revision"]) for name, data in told] == [
        ("new_conversation", None, 10),
        ("new_message", "3", 3),
        ("new_message", "grown", 6),
        ("message_update", "whole", 8),
        ("message_deleted", None, 9),
    ]
    assert told[0][1]["message_count"] == 2
    assert [(name, data["revision"]) for name, data in rest] == [
        ("message_update", 6),
        ("message_update", 8),
        ("message_deleted", 9),
        ("conversation_update", 10),
    ]


async def test_a_conversation_that_appears_comes_before_its_messages() -> None:
    """Where its totals, written last, are all that a database says of it; no cursor skips a row."""
    talk = conversation(revision=3, message_count=2)
    hello, again = (
        message(text, seq).model_copy(update={"project_id": PROJECT})
        for seq, text in enumerate(("hello", "again"), 1)
    )
    changes = created(hello, again, project(), talk)
    page = Page(changes, "s.5", places=["s.1", "s.2", "s.3", "s.4"])
    async with Served.run() as served, served.client() as client:
        hub = served.relay.manager.hub
        hub.take(Page((), "s.0", resync=True))
        await client.got("resync")
        hub.take(page)
        told = [(frame["type"], frame["data"]) for frame in await client.sync()]
        assert [(name, data["id"], data["cursor"]) for name, data in told] == [
            ("project_update", str(PROJECT), "s.0"),
            ("new_conversation", str(talk.id), "s.0"),
            ("new_message", str(hello.id), "s.1"),
            ("new_message", str(again.id), "s.2"),
            ("project_update", str(PROJECT), "s.3"),
            ("conversation_update", str(talk.id), "s.5"),
        ]
        for number, (_, data) in enumerate(told):
            await client.say("subscribe", {"since": data["cursor"]})
            await client.got("subscribed")
            missed = {frame["data"]["id"] for frame in await client.sync()}
            assert missed >= {later["id"] for _, later in told[number + 1 :]}


@st.composite
def pages(draw: st.DrawFn) -> Page:
    """Return a page in which each row stands once, in any order."""
    all_rows: list[Row] = [
        project(),
        *(conversation(name) for name in SESSIONS),
        *(
            message(name, seq, conversation(name)).model_copy(update={"project_id": PROJECT})
            for name in SESSIONS
            for seq in (1, 2)
        ),
    ]
    rows = [Change(row, draw(st.booleans())) for row in all_rows if draw(st.booleans())]
    ordered = draw(st.permutations(rows))
    told = draw(st.booleans())
    places = [f"s.{number}" for number in range(1, len(rows) + 1)] if told else []
    return Page(ordered, f"s.{len(rows) + 1}", places=places)


@given(pages())
def test_no_cursor_within_a_page_skips_what_was_not_told(page: Page) -> None:
    """Every change comes where it stands, parents that appear also before, and cursors never fall.

    A cursor may be of another relay, which has told of these rows as they were before.
    """
    told = list(page.placed("s.0"))
    places = [int(cursor.removeprefix("s.")) for _, cursor in told]
    assert places == sorted(places)
    assert not told or told[-1][1] == page.cursor
    for place in range(len(page.changes)) if page.places else [-1]:
        heard = [change.row for (change, _), its in zip(told, places, strict=True) if its > place]
        behind = [change.row for change in page.changes[max(place, 0) :]]
        assert {row.id for row in behind} <= {row.id for row in heard}
    news = [change.row.id for change, _ in told if change.created]
    assert sorted(news, key=str) == sorted(
        (change.row.id for change in page.changes if change.created), key=str
    )
    come: set[object] = set()
    appear = {change.row.id for change in page.changes if change.created}
    for change, _ in told:
        row = change.row
        if isinstance(row, Message):
            assert {row.conversation_id, row.project_id} & appear <= come
        elif isinstance(row, Conversation):
            assert {row.project_id} & appear <= come
        come.add(row.id)
