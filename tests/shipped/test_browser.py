"""The clients in a real browser: ours, and one that was written for the older form of `/ws`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from conv_realtime import testing, viewer
from conv_realtime.cli.server import Server
from conv_realtime.local import LocalSupabase
from tests.browser import Page, browser, needs_chromium, open_page
from tests.conftest import Owner
from tests.node import JS
from tests.relay.proxy import Proxy
from tests.relay.rows import changed, conversation, created, message, project
from tests.relay.serving import Served
from tests.relay.test_supabase_feed import client_of, write
from tests.shipped.declarations import MODULES, VIEWER

pytestmark = needs_chromium

UMD = JS / "node_modules" / "supabase-js-newest" / "dist" / "umd" / "supabase.js"


HEAD = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">'


@asynccontextmanager
async def site(html: str, scripts: Mapping[str, str] | None = None) -> AsyncIterator[str]:
    """Serve a page of an origin of its own; gives its address."""
    texts = scripts or {}

    async def page(request: Request) -> Response:
        return Response(f"{HEAD}{html}", media_type="text/html")

    async def script(request: Request) -> Response:
        return Response(texts[request.url.path], media_type="text/javascript")

    async with Server("127.0.0.1", 0) as server:
        await server.start(Starlette(routes=[Route("/", page), *(Route(n, script) for n in texts)]))
        yield f"http://{server.address}/"


async def sleep(page: Page) -> None:
    """Let the page be frozen, as a browser does with tabs that nobody looks at."""
    await page.call("Page.setWebLifecycleState", state="frozen")


def odd(page: Page) -> list[Any]:
    """What went wrong in the page; that a frozen one loses its connections is no wonder."""
    return [said for said in page.complaints if "Back-Forward Cache" not in str(said)]


async def wake(page: Page) -> None:
    """Let it be looked at again."""
    await page.call("Page.setWebLifecycleState", state="active")


OURS = """<script type="module">
  import {{ connect }} from "http://{address}/client.js";
  const live = connect("http://{address}/ws", {{ firstPauseMs: 20 }});
  const messages = () => [...live.conversations.keys()].flatMap((id) => live.messages(id));
  window.live = live;
  window.texts = () => messages().map(({{ text }}) => text).join("|");
</script>"""


async def test_a_page_of_another_origin_imports_the_client_and_stays_current() -> None:
    """It gets the module, connects, sleeps and comes back, and ends when it says so."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(Server("127.0.0.1", 0))
        stack.push_async_callback(server.stop)
        bridge = await stack.enter_async_context(testing.bridge())
        await server.start(Starlette(routes=[*bridge.bridge.routes, *viewer.routes()]))
        bridge.append(testing.claude_line("one"))
        await bridge.next("new_message")
        url = await stack.enter_async_context(site(OURS.format(address=server.address)))
        page = await open_page(await stack.enter_async_context(browser()), url)
        await page.until("window.texts?.() === 'one'")
        bridge.append(testing.claude_line("two", "assistant"))
        await page.until("window.texts() === 'one|two'")
        await sleep(page)
        bridge.append(testing.claude_line("three"))
        await bridge.next("new_message", text="three")
        await wake(page)
        await page.until("window.texts() === 'one|two|three'")
        await page.until("live.status === 'live'")  # its line may have ended while it slept
        await page.value("live.close()")
        clients = bridge.bridge.manager.hub.clients
        bridge.append(testing.claude_line("four"))
        await bridge.next("new_message", text="four")
        await page.until("live.status === 'closed'")
        assert len(clients) == 0
        assert await page.value("window.texts()") == "one|two|three"
        assert odd(page) == []


SUPABASE = """
<script src="/supabase.js"></script>
<script type="module">
  import {{ follow }} from "/conversations.js";
  const client = supabase.createClient({url}, {key}, {{ accessToken: async () => {token} }});
  window.client = client;
  window.talk = follow(client, {{ conversation: {talk} }});
  window.list = follow(client);
  window.texts = () => talk.messages().map(({{ text }}) => text).join("|");
</script>"""


async def test_supabase_js_in_a_page_follows_a_conversation(
    local_supabase: LocalSupabase, owner: Owner
) -> None:
    """The newest supabase-js, as a script: rows, changes, a frozen tab, and nothing left."""
    me = UUID(owner.id)
    talk = conversation("one", me)
    values = {
        "url": local_supabase.url,
        "key": local_supabase.publishable_key,
        "token": owner.token,
        "talk": str(talk.id),
    }
    html = SUPABASE.format(**{name: json.dumps(value) for name, value in values.items()})
    paths = {"/supabase.js": UMD, **{f"/{name}.js": VIEWER / f"{name}.js" for name in MODULES}}
    scripts = {address: path.read_text() for address, path in paths.items()}
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        writer = await enter(client_of(local_supabase, local_supabase.secret_key))
        await write(writer, project(owner=me), talk, message("one", 1, of=talk))
        page = await open_page(await enter(browser()), await enter(site(html, scripts)))
        await page.until("window.texts?.() === 'one' && talk.status === 'live'")
        await write(writer, message("two", 2, of=talk))
        await page.until("texts() === 'one|two'")
        await sleep(page)
        await write(writer, message("three", 3, of=talk))
        await wake(page)
        await page.until("texts() === 'one|two|three'")
        titles = "[...list.conversations.values()].map((row) => row.title)"
        assert await page.value(titles) == ["one"]
        await page.value("void Promise.all([talk.unsubscribe(), list.unsubscribe()])")
        await page.until("client.getChannels().length === 0")
        assert odd(page) == []


OLDER = """<script>
  // As clients were written for the older form: three fields, pings for nobody, 1000 is the end.
  const conversations = new Map(), texts = [], odd = [];
  let connections = 0, pongs = 0, over = false;
  const handlers = {{
    connection_established: () => connections++,
    new_conversation: (data) => conversations.set(data.id, data),
    conversation_update: (data) => conversations.set(data.id, data),
    new_message: (data) => texts.push(data.text),
  }};
  function start() {{
    const socket = new WebSocket("{address}");
    const pinging = setInterval(() => {{
      const ping = {{ type: "ping", timestamp: Date.now() }};
      if (socket.readyState === 1) socket.send(JSON.stringify(ping));
    }}, 50);
    socket.onmessage = (event) => {{
      const frame = JSON.parse(event.data);
      const fields = Object.keys(frame).sort().join();
      if (fields !== "data,timestamp,type" || typeof frame.timestamp !== "number") odd.push(frame);
      if (frame.type === "pong" && typeof frame.data.timestamp === "number") pongs++;
      const handler = handlers[frame.type];
      if (handler) handler(frame.data);
    }};
    socket.onclose = (event) => {{
      clearInterval(pinging);
      if (event.code === 1000) over = true;
      else setTimeout(start, 50);
    }};
  }}
  start();
  const count = () => {{
    const counted = {{ active: 0, completed: 0, error: 0 }};
    for (const row of conversations.values()) counted[row.status]++;
    return JSON.stringify(counted);
  }};
</script>"""


async def test_a_client_of_the_older_form_works_unchanged() -> None:
    """It counts by status, pings without end, and comes back after a restart of the server."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        first = await stack.enter_async_context(Served.run())
        proxy = await enter(Proxy.to("127.0.0.1", first.server.port))
        address = f"ws://127.0.0.1:{proxy.port}/ws?timestamp=1"
        url = await enter(site(OLDER.format(address=address)))
        page = await open_page(await enter(browser()), url)
        await page.until("connections === 1 && pongs > 2")
        rows = [
            conversation("a", status="active"),
            conversation("b", status="completed"),
            conversation("c", status="error"),
            conversation("d", status="active"),
        ]
        first.feed.publish(created(*rows, message("hello", of=rows[0])))
        await page.until("""count() === '{"active":2,"completed":1,"error":1}'""")
        first.feed.publish(changed(conversation("d", revision=2, status="completed")))
        await page.until("""count() === '{"active":1,"completed":2,"error":1}'""")
        async with Served.run() as second:
            proxy.point_at("127.0.0.1", second.server.port)
            first.server.server.should_exit = True
            await page.until("connections === 2")
            second.feed.publish(created(message("again", 2, of=rows[0])))
            await page.until("texts.join() === 'hello,again'")
            pongs = await page.value("pongs")
            await page.until(f"pongs > {pongs} + 2")
            assert await page.value("over") is False
            assert await page.value("odd") == []
            assert odd(page) == []
