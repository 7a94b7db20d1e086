"""The conversation that every official client has to pass, step by step, on one Supabase.

The steps build on each other: `SCRIPT` is their order. A step asserts what it says and nothing of
how a client says it, so that the same lines hold for each of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.clients.client import Client, Heard
from tests.project import Owner, SupabaseProject
from tests.sql.rows import conversation, message


@dataclass
class Stage:
    """Who takes part.

    Attributes:
        client: the one that is tested; it becomes the member.
        neighbour: another of its kind; it becomes the stranger.
        restart: stops the server and starts it on the same port; None where that is not ours.
        talk: the member's conversation.
    """

    project: SupabaseProject
    member: Owner
    stranger: Owner
    client: Client
    neighbour: Client
    restart: Callable[[], Awaitable[None]] | None = None
    talk: dict[str, Any] = field(default_factory=dict)
    cursor: str = ""

    @property
    def topic(self) -> str:
        """The private channel of the member's conversation."""
        return f"conv_realtime:conversation:{self.talk['id']}"

    async def say(self, position: int, text: str) -> None:
        """Writes a message of the conversation, with the client itself."""
        written = await self.client.upsert("messages", [message(self.talk, position, text=text)])
        assert (written.code, len(written.data)) == (None, 1)

    async def hear(self) -> Heard:
        """Waits for the next broadcast on the private channel."""
        heard: Heard = await self.client.inbox.next("broadcast", self.topic)
        return heard


async def token(stage: Stage) -> None:
    """The key alone is refused; a user's token is let in."""
    refused = await stage.client.select("conversations", "id", {}, "id")
    assert refused.code == "42501"
    await stage.client.sign_in(stage.member.token)
    await stage.neighbour.sign_in(stage.stranger.token)
    assert (await stage.client.select("conversations", "id", {}, "id")).data == []


async def upsert(stage: Stage) -> None:
    """Rows are written once: again they change nothing, and another's are refused."""
    stage.talk = conversation(stage.member.id, title="é 😀")
    for count in (1, 0):
        written = await stage.client.upsert("conversations", [stage.talk])
        assert (written.code, len(written.data)) == (None, count)
    lines = [message(stage.talk, position) for position in (0, 100)]
    written = await stage.client.upsert("messages", lines)
    assert {row["id"] for row in written.data} == {line["id"] for line in lines}
    refused = await stage.neighbour.upsert("conversations", [stage.talk | {"title": "mine"}])
    assert refused.code == "42501"


async def select(stage: Stage) -> None:
    """Chosen columns of chosen rows in order; another user sees none."""
    where = {"conversation_id": stage.talk["id"]}
    rows = await stage.client.select("messages", "seq, text, content", where, "seq")
    assert rows.data == [
        {key: message(stage.talk, position)[key] for key in ("seq", "text", "content")}
        for position in (0, 100)
    ]
    titled = await stage.client.select("conversations", "title", {"title": "é 😀"}, "id")
    assert titled.data == [{"title": "é 😀"}]
    assert (await stage.neighbour.select("messages", "seq", where, "seq")).data == []


async def call(stage: Stage) -> None:
    """`changes_since` gives everything, then nothing more."""
    first = await stage.client.rpc("changes_since", cursor="start", max_rows=500)
    tables = [change["table"] for change in first.data["changes"]]
    assert tables == ["conversations", "messages", "messages"]
    stage.cursor = first.data["cursor"]
    again = await stage.client.rpc("changes_since", cursor=stage.cursor)
    assert (again.data["changes"], again.data["resync"]) == ([], False)
    assert (await stage.client.rpc("no_such_function")).code == "PGRST202"


async def public_broadcast(stage: Stage) -> None:
    """Through the socket, HTTP and SQL, to others and, where asked for, to oneself."""
    topic = f"clients:{uuid.uuid4()}"
    events = ["one", "two", "three"]
    assert (await stage.client.join(topic, echo=True, events=events)).status == "SUBSCRIBED"
    assert (await stage.neighbour.join(topic, events=events)).status == "SUBSCRIBED"
    everybody = [stage.client.inbox, stage.neighbour.inbox]

    async def heard(event: str) -> list[Heard]:
        said = [await inbox.next("broadcast", topic) for inbox in everybody]
        assert [one.event for one in said] == [event, event]
        return said

    await stage.client.send(topic, "one", {"a": 1})
    assert [one.payload for one in await heard("one")] == [{"a": 1}] * 2
    await stage.client.http_send(topic, "two", {"b": "é 😀"})
    assert [one.payload for one in await heard("two")] == [{"b": "é 😀"}] * 2
    async with await psycopg.AsyncConnection.connect(stage.project.db_url) as connection:
        await connection.execute("select realtime.send('{\"n\": 1}', 'three', %s, false)", (topic,))
    for one in await heard("three"):
        assert one.payload == {"id": one.meta["id"], "n": 1}
    await stage.neighbour.leave(topic)
    await stage.client.leave(topic)


async def private_broadcast(stage: Stage) -> None:
    """The owner hears what the database says of a row; a stranger is refused, and why."""
    events = ["new_message", "message_update"]
    refused = await stage.neighbour.join(stage.topic, private=True, events=events)
    assert refused.status == "CHANNEL_ERROR"
    assert "Unauthorized: You do not have permissions" in str(refused.reason)
    joined = await stage.client.join(stage.topic, private=True, events=events)
    assert joined.status == "SUBSCRIBED", joined.reason
    await stage.say(200, "é 😀")
    heard = await stage.hear()
    assert (heard.event, heard.payload["data"]["text"]) == ("new_message", "é 😀")
    assert stage.neighbour.inbox.count("broadcast", stage.topic) == 0


async def postgres_changes(stage: Stage) -> None:
    """Rows as they are written, to those who may see them."""
    topic = f"changes:{uuid.uuid4()}"
    wanted = {
        "event": "*",
        "schema": "public",
        "table": "messages",
        "filter": f"conversation_id=eq.{stage.talk['id']}",
    }
    for one in (stage.client, stage.neighbour):
        assert (await one.join(topic, changes=[wanted])).status == "SUBSCRIBED"
        assert await one.inbox.next("system", topic) == "ok"
    line = message(stage.talk, 250, text="seen")
    for text, kind in (("seen", "INSERT"), ("seen again", "UPDATE")):
        await stage.client.upsert("messages", [line | {"text": text}])
        change = await stage.client.inbox.next("change", topic)
        assert (change.type, change.table) == (kind, "messages")
        assert (change.new["id"], change.new["text"]) == (line["id"], text)
        assert change.new["content"] == line["content"]
        assert (await stage.hear()).payload["data"]["text"] == text
    assert stage.neighbour.inbox.count("change", topic) == 0
    await stage.client.leave(topic)


async def refreshed_token(stage: Stage) -> None:
    """A new token is taken without a break, by the channel and by requests."""
    await stage.client.sign_in(stage.project.renewed(stage.member).token)
    await stage.say(300, "after the new token")
    assert (await stage.hear()).payload["data"]["text"] == "after the new token"
    assert stage.client.inbox.count("status", stage.topic) == 0


async def reconnect(stage: Stage) -> None:
    """After a restart the channel comes back by itself; what was missed is read."""
    if stage.restart is None:
        return
    await stage.restart()
    await stage.say(400, "while nobody listened, perhaps")
    while await stage.client.inbox.next("status", stage.topic) != "SUBSCRIBED":
        pass
    missed = await stage.client.rpc("changes_since", cursor=stage.cursor)
    texts = [change["row"]["text"] for change in missed.data["changes"]]
    assert texts == ["é 😀", "seen again", "after the new token", "while nobody listened, perhaps"]
    await stage.say(500, "back again")
    while (heard := await stage.hear()).payload["data"]["text"] != "back again":
        pass
    assert heard.event == "new_message"


async def foreign_token(stage: Stage) -> None:
    """A token that may not read ends the channel."""
    await stage.client.sign_in(stage.stranger.token)
    while await stage.client.inbox.next("status", stage.topic) != "CLOSED":
        pass


SCRIPT: tuple[Callable[[Stage], Awaitable[None]], ...] = (
    token,
    upsert,
    select,
    call,
    public_broadcast,
    private_broadcast,
    postgres_changes,
    refreshed_token,
    reconnect,
    foreign_token,
)
