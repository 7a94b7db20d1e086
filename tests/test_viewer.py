"""The viewer in a real browser, driven over the DevTools protocol."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from starlette.applications import Starlette

from conv_realtime import testing, viewer
from conv_realtime.cli.server import Server
from conv_realtime.core.envelope import event_of
from tests.browser import Page, browser, needs_chromium, open_page
from tests.ingest.running import until
from tests.node import JS, node
from tests.relay.rows import changed

pytestmark = needs_chromium


@asynccontextmanager
async def _viewed(
    nothing: str = "", **settings: Any
) -> AsyncIterator[tuple[testing.TestBridge, Page]]:
    """Run a bridge with its viewer, and a browser that looks at it."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(Server("127.0.0.1", 0))
        stack.push_async_callback(server.stop)
        bridge = await stack.enter_async_context(testing.bridge(**settings))
        await server.start(
            Starlette(routes=[*bridge.bridge.routes, *viewer.routes(nothing=nothing)])
        )
        connection = await stack.enter_async_context(browser())
        yield bridge, await open_page(connection, f"http://{server.address}/")


LISTEN = """
    window.sockets = [];
    window.said = [];
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (text) {
      if (window.cut) return this.close();
      if (!window.sockets.includes(this)) window.sockets.push(this);
      if (JSON.parse(text).type === "subscribe") window.said.push(text);
      return send.call(this, text);
    };
"""
LIVE = "document.getElementById('state').textContent === 'live'"
BUTTONS = "document.querySelectorAll('#conversations button')"
TEXTS = "[...document.querySelectorAll('#messages .text')].map((e) => e.textContent).join('|')"


async def _prompts(bridge: testing.TestBridge, count: int) -> None:
    """Begins so many conversations, `prompt 1` and so on, one after the other."""
    for number in range(1, count + 1):
        bridge.append(testing.claude_line(f"prompt {number}", session=_session(number)))
        await bridge.next("new_message")


def _session(number: int) -> str:
    return f"5e551011-0000-4000-8000-00000000000{number}"


@pytest.mark.parametrize("nothing", ["", '"Quoted" & <b>told</b>'])
async def test_where_there_is_no_conversation_yet_it_says_so(nothing: str) -> None:
    """In the words of who serves it, or in its own, until there is one."""
    said = "document.getElementById('none')"
    async with _viewed(nothing) as (bridge, page):
        await page.until(f"{LIVE} && {said}.textContent !== ''")
        text = await page.value(f"{said}.textContent")
        assert text == nothing if nothing else text.startswith("Nothing yet. ")
        bridge.append(testing.claude_line("hello"))
        await page.until(f"{said}.hidden")


async def test_messages_show_up_live_and_as_text() -> None:
    """What is appended is shown at once; markup in a transcript stays text and runs nothing."""
    async with _viewed() as (bridge, page):
        await page.until(LIVE)
        evil = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>"
        bridge.append(testing.claude_line(evil))
        await page.until(f"{TEXTS} === {json.dumps(evil)}")
        bridge.append(testing.claude_line("an answer", "assistant"))
        await page.until(f"{TEXTS}.endsWith('|an answer')")
        assert (
            await page.value("document.querySelectorAll('#messages img, #messages b').length") == 0
        )
        assert await page.value("document.title") == "conv_realtime"
        assert page.complaints == []
        await _picture(page)


async def test_what_was_there_before_is_shown_and_chosen_by_a_click() -> None:
    """A snapshot fills the page; a click shows another conversation."""
    async with _viewed() as (bridge, page):
        await page.until(LIVE)
        await _prompts(bridge, 2)
        await page.call("Page.reload")
        await page.until("document.querySelectorAll('#conversations button').length === 2")
        for number in (1, 2):
            await page.value(
                "[...document.querySelectorAll('#conversations button')]"
                f".find((b) => b.textContent.startsWith('prompt {number}')).click()"
            )
            await page.until(f"{TEXTS} === 'prompt {number}'")
        assert page.complaints == []


async def test_only_the_messages_that_are_looked_at_are_fetched() -> None:
    """The list asks for no messages; another connection follows those of one conversation."""
    async with _viewed() as (bridge, page):
        await page.until(LIVE)
        await _prompts(bridge, 2)
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=LISTEN)
        await page.call("Page.reload")
        await page.until(f"{TEXTS} === 'prompt 2'")
        first, second = await page.value("window.said.map((text) => JSON.parse(text).data)")
        of_conversations = ["new_conversation", "conversation_update", "conversation_deleted"]
        assert first == {"types": of_conversations, "snapshot": 0}
        assert (len(second["conversations"]), second["snapshot"]) == (1, 200)
        assert await page.value("window.sockets.length") == 2
        bridge.append(testing.claude_line("elsewhere", "assistant", session=_session(1)))
        bridge.append(testing.claude_line("here", "assistant", session=_session(2)))
        await page.until(f"{TEXTS} === 'prompt 2|here'")
        assert page.complaints == []


async def test_of_two_quick_choices_the_last_is_shown() -> None:
    """A choice whose connection is not open yet is given up without a complaint."""
    async with _viewed() as (bridge, page):
        await page.until(LIVE)
        await _prompts(bridge, 3)
        await page.until("document.querySelectorAll('#conversations button').length === 3")
        clicks = "for (const b of document.querySelectorAll('#conversations button')) b.click()"
        await page.value(clicks)
        last = "document.querySelector('#conversations [aria-current=true] strong').textContent"
        await page.until(f"{TEXTS} !== '' && {TEXTS} === {last}")
        assert await page.value(last) == await page.value(
            "[...document.querySelectorAll('#conversations strong')].at(-1).textContent"
        )
        assert page.complaints == []


async def test_a_forgotten_conversation_leaves_the_page() -> None:
    """The list, the messages and the title; others stay, and of the last one nothing does."""
    async with _viewed(sweep_seconds=0.1) as (bridge, page):
        await page.until(LIVE)
        bridge.append(testing.claude_line("harmless", session=_session(2)))
        bridge.append(testing.claude_line("my secret"))
        await page.until("document.querySelectorAll('#conversations button').length === 2")
        await page.until("document.body.textContent.includes('my secret')")
        for said, left in (("my secret", 1), ("harmless", 0)):
            stored = partial(_titled, bridge.store, said)
            await until(stored)
            bridge.store.forget(stored()[0])
            await page.until(f"{BUTTONS}.length === {left}")
            await page.until(f"!document.body.textContent.includes('{said}')")
        await page.until("document.body.textContent.includes('No conversation yet')")
        assert page.complaints == []


async def test_the_markdown_of_an_answer_is_shown_and_its_markup_is_not() -> None:
    """Bold words, code and fenced blocks look like it; a tag in them stays text."""
    answer = "a **bold <i>** and `code <i>`\n```html\n<i>*\n```\nend"
    async with _viewed() as (bridge, page):
        await page.until(LIVE)
        bridge.append(testing.claude_line(answer, "assistant"))
        await page.until(f"{TEXTS}.endsWith('end')")
        marked = "[...document.querySelectorAll('#messages .text > *')]"
        assert await page.value(f"{marked}.map((e) => [e.tagName, e.textContent])") == [
            ["STRONG", "bold <i>"],
            ["CODE", "code <i>"],
            ["PRE", "<i>*\n"],
        ]
        assert page.complaints == []


async def test_what_changes_under_the_same_revision_is_shown() -> None:
    """As after `redaction` was turned on: what had to go must not stay on the page."""
    async with _viewed() as (bridge, page):
        await page.until(LIVE)
        bridge.append(testing.claude_line("my key is sesame"))
        await page.until(f"{TEXTS} === 'my key is sesame'")
        await until(lambda: len(bridge.store.messages) == 1)
        (row,) = bridge.store.messages.values()
        (change,) = changed(row.model_copy(update={"text": "my key is [redacted]"}))
        await bridge.bridge.manager.broadcast(event_of(change, "s.1"))
        await page.until(f"{TEXTS} === 'my key is [redacted]'")
        assert page.complaints == []


async def test_no_text_stalls_or_breaks_the_page() -> None:
    """Neither beginnings without an end nor more pieces than a call takes arguments."""
    last = "[...document.querySelectorAll('#messages .text')].at(-1)?.textContent"
    async with _viewed() as (bridge, page):
        await page.until(LIVE)
        units = ("[", "[a", "[a](http://", "`a`b", "# a\n", "- [`a`", "> ")
        texts = [unit * (400_000 // len(unit)) for unit in units]
        texts.append("a" + "`" * 400_000)  # no fence, which begins its line
        for number, text in enumerate(texts):
            bridge.append(testing.claude_line(text, "assistant"))
            bridge.append(testing.claude_line(f"behind {number}"))
            await page.until(f"{last} === 'behind {number}'")
        assert page.complaints == []


async def test_a_tool_call_and_a_thought_are_shown_folded() -> None:
    """A message without text says which tool it calls, and the input stays text."""
    content = [
        {"type": "thinking", "thinking": "hm <i>"},
        {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls <b>"}},
    ]
    async with _viewed() as (bridge, page):
        await page.until(LIVE)
        bridge.append(testing.claude_line("look", "user"))
        line = json.loads(testing.claude_line("", "assistant"))
        line["message"]["content"] = content
        bridge.append(json.dumps(line))
        await page.until("document.querySelector('#messages .call summary') !== null")
        folded = "[...document.querySelectorAll('#messages details')].map((d) => d.textContent)"
        thought, call = await page.value(folded)
        assert thought == "thoughthm <i>"
        assert call.startswith("Bash ls <b>{")
        assert await page.value(TEXTS) == "look"
        assert await page.value("document.querySelector('#messages i, #messages b')") is None
        assert page.complaints == []


def _titled(store: testing.MemoryStore, title: str) -> list[UUID]:
    """The ids of what is stored under a title."""
    return [row.id for row in store.conversations.values() if row.title == title]


async def test_what_an_edit_changed_is_shown_as_lines_that_went_and_came() -> None:
    """Around it some of what stayed; nothing else of the file."""
    edit = {"file_path": "/a.py", "old_string": "one\ntwo\nthree", "new_string": "one\n2\nthree"}
    async with _viewed() as (bridge, page):
        await page.until(LIVE)
        line = json.loads(testing.claude_line("", "assistant"))
        use = {"type": "tool_use", "id": "t1", "name": "Edit", "input": edit}
        line["message"]["content"] = [use]
        bridge.append(json.dumps(line))
        lines = "[...document.querySelectorAll('#messages .diff span')].map((e) => e.textContent)"
        await page.until(f"{lines}.length === 4")
        assert await page.value(lines) == ["  one\n", "- two\n", "+ 2\n", "  three\n"]


async def test_what_a_tool_gave_back_is_folded_and_says_if_it_failed() -> None:
    """One line of it can be read without opening it."""
    async with _viewed() as (bridge, page):
        await page.until(LIVE)
        result = {
            "type": "tool_result",
            "tool_use_id": "t1",
            "content": "no such file\n(os error 2)",
        }
        line = json.loads(testing.claude_line(""))
        line["message"]["content"] = [{**result, "is_error": True}]
        bridge.append(json.dumps(line))
        await page.until("document.querySelector('#messages .tool details') !== null")
        summary = "document.querySelector('#messages .tool summary').textContent"
        assert await page.value(summary) == "failed no such file2 lines"
        assert await page.value("document.querySelector('#messages .tool details').open") is False


async def test_conversations_stand_under_their_project_and_subagents_under_theirs() -> None:
    """The newest project first."""
    async with _viewed() as (bridge, page):
        await page.until(LIVE)
        second = _session(2)
        bridge.append(testing.claude_line("old", cwd="/old", timestamp="2026-01-01T00:00:00Z"))
        bridge.append(testing.claude_line("new", session=second, cwd="/new"))
        bridge.append(
            testing.claude_line("helper", session=second, cwd="/elsewhere", isSidechain=True)
        )
        await page.until("document.querySelectorAll('#conversations button').length === 3")
        shown = """[...document.querySelectorAll('#conversations details')].map((group) =>
          [group.firstChild.textContent, ...[...group.querySelectorAll('button')].map((b) =>
            b.className + b.querySelector('strong').textContent)])"""
        await page.until(f"{shown}.length === 2")
        assert await page.value(shown) == [["new", "new", "childhelper"], ["old", "old"]]
        await page.value("document.querySelector('#conversations button').click()")
        await page.until("document.querySelector('#family button')?.textContent === '↳ helper'")


async def test_a_lost_connection_and_a_mended_gap_are_said() -> None:
    """In words, for as long as it lasts; what was written meanwhile is there afterwards."""
    async with _viewed() as (bridge, page):
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=LISTEN)
        await page.call("Page.reload")
        await page.until(LIVE)
        notice = "document.getElementById('notice')"
        assert await page.value(f"{notice}.hidden") is True
        await page.value("window.cut = true; for (const one of window.sockets) one.close()")
        await page.until(f"!{notice}.hidden && {notice}.textContent.includes('connection is lost')")
        bridge.append(testing.claude_line("meanwhile"))
        await page.value("window.cut = false")
        await page.until(f"{notice}.hidden && {TEXTS} === 'meanwhile'")


async def test_a_connection_that_never_was_is_said() -> None:
    """As from another machine, which may load the page and not connect."""
    async with _viewed(trust_loopback=False, ws_token="somebody's") as (_, page):
        notice = "document.getElementById('notice')"
        await page.until(f"!{notice}.hidden && {notice}.textContent.includes('another machine')")


async def test_it_can_be_used_by_the_keyboard_alone() -> None:
    """Arrows go through the list, Enter opens, a slash searches and Escape leaves the search."""
    async with _viewed() as (bridge, page):
        await page.until(LIVE)
        await _prompts(bridge, 2)
        await page.until("document.querySelectorAll('#conversations button').length === 2")
        await page.value("document.querySelector('#conversations button').focus()")
        await _press(page, "ArrowDown")
        await _press(page, "Enter")
        await page.until(f"{TEXTS} === 'prompt 1'")
        await _press(page, "/")
        assert await page.value("document.activeElement.id") == "search"
        await page.call("Input.insertText", text="prompt 2")
        await page.until("document.querySelectorAll('#conversations button').length === 1")
        await _press(page, "Escape")
        await page.until("document.querySelectorAll('#conversations button').length === 2")
        assert await page.value("document.activeElement.id") != "search"


async def test_an_address_that_names_no_conversation_changes_nothing() -> None:
    """Such as that of the link to the messages: what is looked at stays, and stays current."""
    async with _viewed() as (bridge, page):
        await page.until(LIVE)
        await _prompts(bridge, 1)
        await page.until(f"{TEXTS} === 'prompt 1'")
        bridge.append(testing.claude_line("prompt 2", session=_session(2)))
        await page.until(f"{BUTTONS}.length === 2")
        await page.value("document.querySelector('#conversations [aria-current=false]').click()")
        await page.until(f"{TEXTS} === 'prompt 2'")
        chosen = await page.value("location.hash")
        await page.value("document.querySelector('.skip').focus()")
        await _press(page, "Enter")
        await page.until("document.activeElement.id === 'scroll'")
        await page.until(f"location.hash === '{chosen}'")
        bridge.append(testing.claude_line("more", "assistant", session=_session(2)))
        await page.until(f"{TEXTS} === 'prompt 2|more'")
        assert page.complaints == []


async def test_messages_are_found_by_their_words() -> None:
    """What does not hold them is out of sight until they are taken away."""
    async with _viewed() as (bridge, page):
        await page.until(LIVE)
        for text in ("apples", "pears", "more Apples"):
            bridge.append(testing.claude_line(text))
        await page.until(f"{TEXTS} === 'apples|pears|more Apples'")
        await page.value("document.getElementById('find').focus()")
        await page.call("Input.insertText", text="apple")
        await page.until("document.getElementById('found').textContent === '2 of 3'")
        hidden = "[...document.querySelectorAll('#messages li')].map((e) => e.hidden)"
        assert await page.value(hidden) == [False, True, False]


async def test_ten_thousand_messages_are_shown_and_none_twice() -> None:
    """Page by page, down to the first."""
    async with _viewed() as (bridge, page):
        await page.until(LIVE)
        lines = b"".join(testing.claude_line(f"line {number}") for number in range(10_000))
        bridge.append(lines, session=_session(1))
        await until(lambda: len(bridge.store.messages) == 10_000)
        await page.call("Page.reload")
        count = "document.querySelectorAll('#messages li').length"
        await page.until(f"{count} === 200")
        for shown in (2_000, 10_000):
            await page.value("document.getElementById('earlier').click()")
            await page.until(f"{count} === {shown}")
        first = "document.querySelector('#messages .text').textContent"
        assert await page.value(first) == "line 0"
        assert await page.value(f"new Set({TEXTS}.split('|')).size") == 10_000
        assert page.complaints == []


async def test_the_place_that_is_read_stays_where_it_is() -> None:
    """At the end the newest is in sight; what is read stands still when earlier ones come in."""
    pane = "document.getElementById('scroll')"
    async with _viewed() as (bridge, page):
        await page.until(LIVE)
        for first in range(0, 450, 90):
            lines = [
                testing.claude_line(f"line {number}\n" * 3) for number in range(first, first + 90)
            ]
            bridge.append(b"".join(lines), session=_session(1))
            await page.until(f"{TEXTS}.includes('line {first + 89}')")
            await page.until(f"{pane}.scrollHeight - {pane}.scrollTop - {pane}.clientHeight < 80")
        await page.call("Page.reload")
        await page.until("document.querySelectorAll('#messages li').length === 200")
        await page.value(f"{pane}.scrollTop = 0")
        await page.value("window.read = document.querySelector('#messages li')")
        place = f"read.getBoundingClientRect().top - {pane}.getBoundingClientRect().top"
        was = await page.value(place)
        await page.value("document.getElementById('earlier').click()")
        await page.until("document.querySelectorAll('#messages li').length === 450")
        assert abs(await page.value(place) - was) <= 2
        bridge.append(testing.claude_line("one more", "assistant"), session=_session(1))
        await page.until(f"{TEXTS}.endsWith('one more')")
        assert abs(await page.value(place) - was) <= 2


async def test_on_a_phone_the_list_and_the_messages_take_turns() -> None:
    """One at a time, and a way back."""
    async with _viewed() as (bridge, page):
        size = {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": True}
        await page.call("Emulation.setDeviceMetricsOverride", **size)
        await page.until(LIVE)
        bridge.append(testing.claude_line("a prompt"))
        await page.until(f"{TEXTS} === 'a prompt'")
        seen = "['nav', 'main'].map((name) => document.querySelector(name).offsetHeight > 0)"
        assert await page.value(seen) == [True, False]
        await page.value("document.querySelector('#conversations button').click()")
        assert await page.value(seen) == [False, True]
        await page.value("document.getElementById('back').click()")
        assert await page.value(seen) == [True, False]
        assert await page.value("document.documentElement.scrollWidth <= innerWidth") is True


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_stands_in_the_way_of_a_screen_reader(scheme: str) -> None:
    """axe finds no fault: names, roles, contrast, order."""
    node()  # or the packages are not there
    axe = (JS / "node_modules" / "axe-core" / "axe.min.js").read_text()
    async with _viewed() as (bridge, page):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await page.call("Emulation.setEmulatedMedia", features=[feature])
        await page.until(LIVE)
        bridge.append(testing.claude_line("a prompt"))
        line = json.loads(testing.claude_line("", "assistant"))
        line["message"]["content"] = [
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "# Head\n* item\n> quote\n```diff\n+a\n-b\n```\n**b** `c`"},
            {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}},
        ]
        bridge.append(json.dumps(line))
        await page.until("document.querySelector('#messages .call') !== null")
        await page.value("for (const one of document.querySelectorAll('details')) one.open = true")
        await page.value(axe)
        await page.value("axe.run().then((found) => { window.found = found })")
        await page.until("window.found !== undefined")
        faults = "window.found.violations.map((one) => [one.id, one.nodes.map((n) => n.html)])"
        assert await page.value(faults) == []
        assert await page.value("window.found.passes.length") > 10


async def _press(page: Page, key: str) -> None:
    text = {"text": "\r" if key == "Enter" else key} if key in ("Enter", "/") else {}
    for kind in ("keyDown", "keyUp"):
        down = text if kind == "keyDown" else {}
        await page.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **down)


async def _picture(page: Page) -> None:
    """Keep pictures in light and dark for whoever wants to look, if a folder is named."""
    folder = os.environ.get("CONV_REALTIME_PICTURES")
    for scheme in ("light", "dark") if folder else ():
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await page.call("Emulation.setEmulatedMedia", features=[feature])
        shot = await page.call("Page.captureScreenshot")
        _write(f"{folder}/viewer-{scheme}.png", shot["data"])


def _write(path: str, data: str) -> None:
    import base64
    from pathlib import Path

    Path(path).write_bytes(base64.b64decode(data))
