"""`client.js`, the client of `/ws` for browsers and Node.js, in Node.js against real servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from conv_realtime.core.envelope import message_data
from conv_realtime.events import MessageUpdate, Resync, ResyncData
from conv_realtime.models import Conversation, Message
from tests.node import JS, NodeProgram, node
from tests.relay.proxy import Proxy
from tests.relay.rows import START, changed, conversation, created, message
from tests.relay.serving import DEADLINE, Served
from tests.shipped.declarations import VIEWER
from tests.shipped.files import OTHER, TALK, Files

pytestmark = pytest.mark.node

QUICK = {"firstPauseMs": 10, "longestPauseMs": 100}


def row(number: int, text: str | None = None, of: Conversation = TALK, **columns: Any) -> Message:
    """Return a message of the conversation."""
    return message(text or str(number), number, of=of, **columns)


class Browser:
    """A client in Node.js by the name of `live`, and what is seen of it."""

    def __init__(self, node: NodeProgram, url: str) -> None:
        self.node = node
        self.url = url

    async def connect(self, tokens: Sequence[str] | None = None, **options: Any) -> None:
        """Connect and wait until rows are current."""
        await self.begin(tokens, **options)
        await self.node.do("ready", name="live")

    async def begin(self, tokens: Sequence[str] | None = None, **options: Any) -> None:
        """Connect."""
        given = {**QUICK, **options}
        await self.node.do("connect", name="live", url=self.url, tokens=tokens, options=given)

    async def texts(self, of: Conversation = TALK) -> list[str]:
        """The texts of a conversation in the order of `seq`."""
        texts: list[str] = await self.node.do("texts", name="live", conversation=str(of.id))
        return texts

    async def conversations(self) -> list[dict[str, Any]]:
        """The conversations."""
        rows: list[dict[str, Any]] = await self.node.do("conversations", name="live")
        return rows

    async def seen(self) -> dict[str, Any]:
        """What it told so far."""
        seen: dict[str, Any] = await self.node.do("seen", name="live")
        return seen

    async def shows(self, *texts: str, of: Conversation = TALK) -> None:
        """Wait until these are the texts."""
        shown: list[str] = []
        try:
            async with asyncio.timeout(DEADLINE):
                while (shown := await self.texts(of)) != list(texts):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        except TimeoutError:
            pytest.fail(f"{shown} and not {texts}; {await self.seen()}")

    async def becomes(self, status: str) -> dict[str, Any]:
        """Wait for a status; gives what it told so far."""
        async with asyncio.timeout(DEADLINE):
            while (seen := await self.seen())["status"] != status:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return seen


@asynccontextmanager
async def browser(*rows: Message, **values: Any) -> AsyncIterator[tuple[Served, Proxy, Browser]]:
    """Serve rows behind a line that can be cut, with Node.js ready to connect."""
    async with (
        Served.run(**values) as served,
        Proxy.to("127.0.0.1", served.server.port) as proxy,
        NodeProgram.run("shipped.mjs") as program,
    ):
        served.feed.attach(Files(*rows))
        yield served, proxy, Browser(program, f"ws://127.0.0.1:{proxy.port}/ws")


async def test_rows_are_those_of_the_snapshot_and_of_what_comes_after() -> None:
    """Messages stand by `seq` however they come; what was taken back goes, and stays away."""
    async with browser(row(2), row(4)) as (served, _, live):
        await live.connect()
        assert await live.texts() == ["2", "4"]
        served.feed.publish(created(row(5), row(3)))
        served.feed.publish(changed(row(4, "four", revision=10)))
        await live.shows("2", "3", "four", "5")
        late = MessageUpdate(data=message_data(row(4, "late", revision=9), "x.1"))
        await served.relay.manager.broadcast(late)
        served.feed.publish(changed(row(3, deleted_at=START, revision=11)))
        again = MessageUpdate(data=message_data(row(3, "again", revision=10), "x.1"))
        await served.relay.manager.broadcast(again)
        served.feed.publish(created(row(6)))
        await live.shows("2", "four", "5", "6")
        assert (await live.seen())["errors"] == []


async def test_a_conversation_that_is_gone_goes_with_its_messages() -> None:
    """It stays away when something late comes of it, and comes back at the revision it went at."""
    async with browser(row(1), row(1, "there", of=OTHER)) as (served, _, live):
        await live.connect()
        gone = conversation("one", revision=5, deleted_at=START)
        served.feed.publish(changed(gone, conversation("one", revision=4), row(2, of=OTHER)))
        await live.shows("there", "2", of=OTHER)
        assert await live.texts() == []
        assert [row["title"] for row in await live.conversations()] == ["two"]
        assert (await live.seen())["errors"] == []
        served.feed.publish(changed(conversation("one", revision=5), row(3, "again")))
        await live.shows("again")
        assert sorted(row["title"] for row in await live.conversations()) == ["one", "two"]


async def test_an_older_message_that_changes_leaves_no_hole() -> None:
    """What lies before the messages that were asked for is not shown without its neighbours."""
    async with browser(*(row(number) for number in range(1, 9))) as (served, _, live):
        await live.connect(subscribe={"snapshot": 3})
        served.feed.publish(changed(row(2, "changed", revision=20), row(7, "seven", revision=21)))
        await live.shows("6", "seven", "8")


async def test_a_cut_line_is_come_back_to_with_the_cursor() -> None:
    """What was missed is replayed, and the snapshot is not sent a second time."""
    async with browser(row(1)) as (served, proxy, live):
        await live.connect()
        changes = 3  # two conversations and a message
        for number in range(2, 8):
            proxy.cut()
            served.feed.publish(created(row(number)))
            changes += 1
            await live.shows(*(str(number) for number in range(1, number + 1)))
        seen = await live.becomes("live")
        assert seen["changes"] == changes
        assert "reconnecting" in seen["statuses"] and seen["resyncs"] == 0
        events = [id for _, id, _ in seen["events"]]
        assert len(events) == len(set(events)) == 6


async def test_a_server_that_forgot_gives_everything_anew() -> None:
    """After `resync` rows that are no more go, others come, and events go on."""
    async with browser(row(1), row(2)) as (_, proxy, live):
        await live.connect()
        async with Served.run() as other:
            other.feed.attach(Files(row(2), row(3)))
            proxy.point_at("127.0.0.1", other.server.port)
            proxy.cut()
            await live.shows("2", "3")
            other.feed.publish(created(row(4)))
            await live.shows("2", "3", "4")
            assert (await live.seen())["resyncs"] == 1


async def test_gaps_that_follow_each_other_are_no_flood() -> None:
    """Each is closed in the end; a server that has only gaps to tell is not asked ever faster."""
    async with browser(row(1)) as (served, _, live):
        await live.connect()
        for _ in range(50):
            gap = Resync(
                data=ResyncData(reason="too_slow", cursor=served.relay.manager.hub.log.cursor)
            )
            await served.relay.manager.broadcast(gap)
        served.feed.attach(Files(row(1), row(2)))
        await live.shows("1", "2")
        assert (await live.seen())["status"] == "live"


async def test_it_can_follow_something_else() -> None:
    """A new subscription fetches its rows; those of before stay until they are there."""
    async with browser(row(1), row(1, "there", of=OTHER)) as (served, _, live):
        await live.connect(subscribe={"conversations": [str(TALK.id)]})
        assert await live.texts(OTHER) == []
        wanted = {"conversations": [str(OTHER.id)], "snapshot": 10}
        await live.node.do("subscribe", name="live", to=wanted)
        await live.shows("there", of=OTHER)
        assert await live.texts() == []
        served.feed.publish(created(row(2), row(2, "more", of=OTHER)))
        await live.shows("there", "more", of=OTHER)


async def test_without_a_snapshot_it_tells_events_alone() -> None:
    """No rows are kept; a cursor of nobody's is a gap that is told."""
    async with browser(row(1)) as (served, _, live):
        await live.connect(subscribe={"snapshot": False, "since": "nobody.1"})
        served.feed.publish(created(row(2)))
        async with asyncio.timeout(DEADLINE):
            while not (seen := await live.seen())["events"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (seen["resyncs"], seen["changes"]) == (1, 0)
        assert seen["events"] == [["new_message", str(row(2).id), 2]]


@pytest.mark.parametrize("token", ["plain.token-1", "with/slash=", "with space+plus"])
async def test_a_token_opens_the_door_each_time(token: str) -> None:
    """Whatever is in it: as a subprotocol or in the address. It is asked for at each attempt."""
    async with browser(row(1), ws_token=SecretStr(token)) as (served, _, live):
        await live.connect(tokens=["wrong", token, "wrong", token])
        (client,) = served.relay.manager.hub.clients.values()
        served.relay.manager.hub.evict(client, 4401, "token expired")
        served.feed.publish(created(row(2)))
        await live.shows("1", "2")


async def test_what_fails_at_once_is_told_to_who_listens_then() -> None:
    """An address that no WebSocket takes: listeners are added after the client was made."""
    async with NodeProgram.run("shipped.mjs") as program:
        live = Browser(program, "ftp://127.0.0.1/ws")
        await live.begin()
        seen = await live.becomes("closed")
        assert seen["statuses"] == ["connecting", "closed"]
        assert len(seen["errors"]) == 1


async def test_a_token_of_a_file_may_end_in_a_newline() -> None:
    """As in Python: what stands around it is no part of it."""
    async with browser(row(1), ws_token=SecretStr("right")) as (_, _, live):
        await live.connect(tokens=["right\n"])


async def test_an_expired_token_that_nobody_renews_is_the_end() -> None:
    """It closes and says why, instead of knocking for ever."""
    async with browser(row(1), ws_token=SecretStr("right")) as (served, _, live):
        await live.connect(token="right")
        (client,) = served.relay.manager.hub.clients.values()
        served.relay.manager.hub.evict(client, 4401, "token expired")
        seen = await live.becomes("closed")
        assert "the token has expired" in seen["errors"][-1]


async def test_a_subscription_that_is_refused_is_the_end() -> None:
    """Otherwise it would go on with everything, which nobody asked for."""
    async with browser(row(1)) as (_, _, live):
        await live.begin(subscribe={"conversations": ["no id"]})
        seen = await live.becomes("closed")
        assert "invalid_data" in seen["errors"][-1] and seen["changes"] == 0
        many = {"conversations": [str(UUID(int=number)) for number in range(2000)]}
        with pytest.raises(AssertionError, match="RangeError"):
            await live.begin(subscribe=many)


async def test_a_dead_line_is_noticed() -> None:
    """A line over which nothing comes any more is given up by its own clock."""
    async with browser(row(1), heartbeat_seconds=0.1) as (served, proxy, live):
        await live.connect()
        proxy.silent = True
        await live.becomes("reconnecting")
        served.feed.publish(created(row(2)))
        proxy.silent = False
        proxy.cut()
        await live.shows("1", "2")


async def test_a_server_that_goes_away_is_come_back_to() -> None:
    """`server_shutdown` and 1012 are no end."""
    async with browser(row(1)) as (served, proxy, live):
        await live.connect()
        served.server.server.should_exit = True
        await live.becomes("reconnecting")
        async with Served.run() as other:
            other.feed.attach(Files(row(1), row(2)))
            proxy.point_at("127.0.0.1", other.server.port)
            await live.shows("1", "2")


PROGRAM = """
import WebSocket from {ws};
import {{ connect }} from {client};
const controller = new AbortController();
const live = connect({url}, {{ WebSocket, signal: controller.signal }});
live.on("change", () => {{ throw new Error("a listener's own"); }});
process.on("uncaughtException", (error) => console.log(error.message));
const away = connect("ws://127.0.0.1:1/ws", {{ WebSocket }});
await live.ready;
{end};
away.close();
console.log(live.status, away.status, live.conversations.size);
"""


@pytest.mark.parametrize("end", ["live.close()", "controller.abort()"])
async def test_a_client_that_is_closed_leaves_nothing_behind(end: str, tmp_path: Path) -> None:
    """The process ends by itself; what a listener throws is seen and stops nothing."""
    async with Served.run() as served:
        served.feed.attach(Files(row(1)))
        program = tmp_path / "program.mjs"
        program.write_text(
            PROGRAM.format(
                ws=json.dumps((JS / "node_modules" / "ws" / "wrapper.mjs").as_uri()),
                client=json.dumps((VIEWER / "client.js").as_uri()),
                url=json.dumps(served.server.url),
                end=end,
            )
        )
        process = await asyncio.create_subprocess_exec(
            node(), program, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(DEADLINE):
            said, _ = await process.communicate()
        assert said.decode().splitlines() == ["a listener's own", "closed closed 2"]
        assert process.returncode == 0
