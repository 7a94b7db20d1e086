"""The React example, installed and built as its README says, in a real browser."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from conv_realtime import Ingest
from conv_realtime.background import beside
from conv_realtime.cli.server import Server
from conv_realtime.testing import SESSION, SupabaseLocal, claude_line
from tests.auth_server import auth_server
from tests.browser import Page, browser, needs_chromium, open_page
from tests.docs.pages import ROOT, blocks, commands
from tests.node import JS, node
from tests.relay.proxy import Proxy
from tests.shipped.test_browser import sleep, wake

pytestmark = [*needs_chromium, pytest.mark.node]

PAGE = "examples/react/README.md"
(INSTALL, DEVELOP), (TAKE,) = (
    commands(block) for block in blocks(PAGE, "bash") if block.startswith("npm ")
)
_NO_REGISTRY = re.compile("ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT")
_NOT_SOURCES = shutil.ignore_patterns("node_modules", "dist", ".env*")
_CONVERSATIONS = "document.querySelectorAll('nav li a')"
_TEXTS = "[...document.querySelectorAll('.text')].map((one) => one.textContent).join('|')"
_FORM = "document.querySelector('form') !== null"
_ENDED = "document.querySelector('[role=alert]')?.textContent.startsWith('Your session has ended')"
_LIVE = "document.querySelector('[role=status]')?.dataset.status === 'live'"


def _bash(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of the README in a folder."""
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=_environment(),
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def _environment() -> dict[str, str]:
    """Return that of a shell which finds this Python, and a Node.js that is new enough."""
    here = [str(Path(program).parent) for program in (sys.executable, node())]
    return {**os.environ, "PATH": os.pathsep.join([*here, os.environ["PATH"]])}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example in a clone of its own, with its packages."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    clone = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "examples" / "react", clone / "examples" / "react", ignore=_NOT_SOURCES)
    shutil.copytree(ROOT / "conv_realtime" / "viewer", clone / "conv_realtime" / "viewer")
    done = _bash(INSTALL, clone / "examples" / "react")
    if done.returncode and _NO_REGISTRY.search(done.stderr):
        pytest.skip("npm reaches no registry")
    assert done.returncode == 0, done.stdout + done.stderr
    return clone / "examples" / "react"


@pytest.fixture(scope="module")
def built(installed: Path) -> Path:
    """The built page; TypeScript has nothing to say."""
    done = _bash("npm run build", installed)
    assert done.returncode == 0, done.stdout + done.stderr
    return installed / "dist"


@asynccontextmanager
async def _tabs(built: Path) -> AsyncIterator[Callable[[], Awaitable[Page]]]:
    """Serve the page; gives what opens it in another tab."""
    async with Server("127.0.0.1", 0) as server, browser() as connection:
        await server.start(Starlette(routes=[Mount("/", StaticFiles(directory=built, html=True))]))
        yield lambda: open_page(connection, f"http://{server.address}/")


@asynccontextmanager
async def _opened(built: Path) -> AsyncIterator[Page]:
    """Serve the page, and open it."""
    async with _tabs(built) as new_tab:
        page = await new_tab()
        await page.until(_FORM)
        yield page


async def _fill(page: Page, fields: dict[str, str]) -> None:
    """Type into fields by their labels, and press the button."""
    for label, text in fields.items():
        await page.value(
            f"{{ const label = [...document.querySelectorAll('label')]"
            f".find((one) => one.textContent.startsWith({json.dumps(label)}));"
            f" const field = label.querySelector('input'); field.focus(); field.select(); }}"
        )
        await page.call("Input.insertText", text=text)
    await page.value("document.querySelector('[type=submit]').click()")


async def _by_token(page: Page, project: SupabaseLocal, **changes: str) -> None:
    token = project.token()
    fields = {"Project URL": project.url, "Publishable key": project.publishable_key}
    await _fill(page, {**fields, "Token": token, **changes})


async def _by_password(page: Page, project: SupabaseLocal, password: str) -> None:
    await page.value("document.querySelector('[name=way]').click()")
    await page.until("document.querySelector('[name=email]') !== null")
    fields = {"Project URL": project.url, "Publishable key": project.publishable_key}
    await _fill(page, {**fields, "E-mail": "ada@example.com", "Password": password})


async def _filled(page: Page) -> dict[str, str]:
    """Return what stands in the form, by the names of its fields."""
    fields = "[...document.querySelectorAll('input:not([type=radio])')]"
    return dict(await page.value(f"{fields}.map((field) => [field.name, field.value])"))


@asynccontextmanager
async def _transcript(tmp_path: Path, project: SupabaseLocal) -> AsyncIterator[Any]:
    """Watch a folder; gives what appends lines to a transcript in it and waits for Supabase."""
    folder = tmp_path / "projects"
    folder.mkdir()
    ingest = Ingest(
        paths=[folder],
        supabase_url=project.url,
        supabase_key=project.secret_key,
        owner_id=project.owner_id,
        state_dir=tmp_path / "state",
    )

    async def append(*lines: bytes) -> None:
        before = ingest.readings()["rows_upserted"]
        with (folder / f"{SESSION}.jsonl").open("ab") as file:
            file.write(b"".join(lines))
        async with asyncio.timeout(20):
            while ingest.readings()["rows_upserted"] < before + len(lines):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async with ingest, beside(ingest.run(), "ingest"):
        yield append


def _answer(*blocks: dict[str, Any]) -> bytes:
    """Return the line of an answer that is made of these blocks."""
    record = json.loads(claude_line("", "assistant"))
    record["message"]["content"] = blocks
    return json.dumps(record).encode() + b"\n"


async def _connected(page: Page, line: Proxy, connected: bool) -> None:
    """Take the network away, or give it back: the browser is told, and what it has open ends."""
    offline = {"offline": not connected, "latency": 0}
    bare = {"downloadThroughput": -1, "uploadThroughput": -1}
    await page.call("Network.enable")
    await page.call("Network.emulateNetworkConditions", **offline, **bare)
    line.open = connected
    if not connected:
        line.cut()


def _exceptions(page: Page) -> list[Any]:
    return [said for said in page.complaints if "exceptionDetails" in said]


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_the_client_can_be_taken_along(tmp_path: Path) -> None:
    """A file of it, installed without a registry, and imported."""
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "script.js").write_text(
        'import { follow } from "conv-realtime/conversations";\nconsole.log(typeof follow);\n'
    )
    done = _bash(f"{TAKE} --offline && node script.js", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("\nfunction\n")
    assert list(tmp_path.glob("conv-realtime-*.tgz"))


async def test_it_is_served_while_it_is_written(installed: Path) -> None:
    """At the address that Vite prints, with the form filled in as `.env.local` says."""
    (settings,) = blocks(PAGE, "ini")
    (installed / ".env.local").write_text(settings)
    process = await asyncio.create_subprocess_exec(
        *shlex.split(DEVELOP), cwd=installed, env={**_environment(), "NO_COLOR": "1"},
        stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30), browser() as connection:
            line = b" "
            while (found := re.search(rb"http://localhost:\d+/", line)) is None:
                line = await process.stdout.readline()
                assert line, "it ended"
            page = await open_page(connection, found.group().decode())
            await page.until(_FORM)
            fields = "['url', 'key'].map((name) => document.querySelector(`[name=${name}]`).value)"
            filled = ["https://project.supabase.co", "sb_publishable_key"]
            assert await page.value(fields) == filled
            assert await page.value("document.querySelector('[name=password]') !== null")
            assert page.complaints == []
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        await process.communicate()
        (installed / ".env.local").unlink()


async def test_what_is_missed_offline_and_asleep_is_there_once(
    built: Path, tmp_path: Path, supabase_local: SupabaseLocal
) -> None:
    """With a token: the list, a message that is appended, no network, a frozen tab, a reload."""
    port = urlsplit(supabase_local.url).port
    assert port is not None
    async with (
        Proxy.to("127.0.0.1", port) as line,
        _transcript(tmp_path, supabase_local) as append,
        _opened(built) as page,
    ):
        url = f"http://127.0.0.1:{line.port}"
        await _by_token(page, supabase_local, **{"Project URL": url})
        await page.until(_LIVE)
        assert "Nothing yet" in await page.value("document.querySelector('nav').textContent")
        await append(claude_line("Mend the lamp"))
        await page.until(f"{_CONVERSATIONS}.length === 1")
        shown = await page.value(f"{_CONVERSATIONS}[0].innerText")
        assert [part in shown for part in ("Mend the lamp", "project", "at work")] == [True] * 3
        await page.value(f"{_CONVERSATIONS}[0].click()")
        await page.until(f"{_TEXTS} === 'Mend the lamp'")
        call = {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "ls -l"}}
        await append(_answer({"type": "text", "text": "I look."}, call))
        await page.until(f"{_TEXTS} === 'Mend the lamp|I look.'")
        folded = "document.querySelector('.scroll details')"
        assert await page.value(f"{folded}.open") is False
        assert "Bash" in await page.value(f"{folded}.querySelector('summary').textContent")

        await _connected(page, line, False)
        await page.until("document.querySelector('[role=status]').dataset.status === 'offline'")
        await append(claude_line("one"), claude_line("two"), claude_line("three"))
        assert await page.value(_TEXTS) == "Mend the lamp|I look."
        await _connected(page, line, True)
        await page.until(f"{_TEXTS} === 'Mend the lamp|I look.|one|two|three'")
        await page.until(_LIVE)
        missed = "document.querySelector('.missed').nextElementSibling.querySelector('.text')"
        assert await page.value(f"{missed}.textContent") == "one"

        await sleep(page)
        await append(claude_line("four"))
        await wake(page)
        everything = "Mend the lamp|I look.|one|two|three|four"
        await page.until(f"{_TEXTS} === '{everything}'")
        await page.call("Page.reload")
        await page.until(f"{_TEXTS} === '{everything}'")
        assert _exceptions(page) == []


async def test_who_has_an_account_signs_in_by_password(
    built: Path, tmp_path: Path, supabase_local: SupabaseLocal
) -> None:
    """A wrong one is told in words; after signing out the page is closed to the next reader."""
    with auth_server(supabase_local) as auth:
        auth.add_user("ada@example.com", "secret", supabase_local.owner_id)
        async with _transcript(tmp_path, supabase_local) as append, _opened(built) as page:
            await append(claude_line("Mend the lamp"))
            await _by_password(page, supabase_local, "wrong")
            alert = "document.querySelector('[role=alert]')?.textContent"
            await page.until(f"{alert} === 'Invalid login credentials'")
            await _fill(page, {"Password": "secret"})
            await page.until(f"{_LIVE} && {_CONVERSATIONS}.length === 1")
            await page.value("document.querySelector('nav button').click()")
            await page.until(_FORM)
            await page.call("Page.reload")
            await page.until(_FORM)
            assert _exceptions(page) == []


async def test_a_token_that_does_not_hold_is_told_in_words(
    built: Path, supabase_local: SupabaseLocal
) -> None:
    """So is an address where nobody answers, and a token that expires while it is read by."""
    async with _opened(built) as page:
        await _by_token(page, supabase_local, Token=supabase_local.token(expires_in=-60))
        alert = "document.querySelector('[role=alert]').textContent"
        await page.until(f"{alert} === 'JWT expired'")
        await _fill(page, {"Project URL": "http://127.0.0.1:9"})
        await page.until(f"{alert}.includes('Failed to fetch')")
        assert await page.value("document.querySelector('[name=token]').value") != ""
        await _by_token(page, supabase_local)
        await page.until(_LIVE)
        supabase_local.faults.expire_tokens()
        await page.until(_ENDED)
        kept = {"url": supabase_local.url, "key": supabase_local.publishable_key}
        assert await _filled(page) == {**kept, "token": ""}
        await _fill(page, {"Token": supabase_local.token()})
        await page.until(_LIVE)
        assert _exceptions(page) == []


@pytest.mark.parametrize("asleep", [False, True])
async def test_who_is_signed_out_elsewhere_signs_in_again_and_has_lost_nothing(
    built: Path, tmp_path: Path, supabase_local: SupabaseLocal, asleep: bool
) -> None:
    """Nothing is shown any more; then it is the same conversation, and what came is there once."""
    with auth_server(supabase_local) as auth:
        auth.lifetime = 4  # supabase-js goes on with a token until it expires
        auth.add_user("ada@example.com", "secret", supabase_local.owner_id)
        async with _transcript(tmp_path, supabase_local) as append, _opened(built) as page:
            await append(claude_line("Mend the lamp"))
            await _by_password(page, supabase_local, "secret")
            await page.until(f"{_LIVE} && {_CONVERSATIONS}.length === 1")
            await page.value(f"{_CONVERSATIONS}[0].click()")
            await page.until(f"{_TEXTS} === 'Mend the lamp'")
            if asleep:
                await sleep(page)
            auth.sign_out_everywhere()
            await append(claude_line("one"))
            if asleep:
                await wake(page)
            await page.until(_ENDED)
            assert "Mend the lamp" not in await page.value("document.body.textContent")
            kept = {"url": supabase_local.url, "key": supabase_local.publishable_key}
            assert await _filled(page) == {**kept, "email": "ada@example.com", "password": ""}
            await append(claude_line("two"))
            await page.call("Page.reload")
            await page.until(_ENDED)
            await _fill(page, {"Password": "secret"})
            await page.until(f"{_TEXTS} === 'Mend the lamp|one|two'")
            await page.until(_LIVE)
            await append(claude_line("three"))
            await page.until(f"{_TEXTS} === 'Mend the lamp|one|two|three'")
            assert _exceptions(page) == []


async def test_who_signs_out_in_one_tab_is_signed_out_in_all(
    built: Path, supabase_local: SupabaseLocal
) -> None:
    """The form is empty there, too: nobody's session has ended by itself."""
    async with _tabs(built) as new_tab:
        first = await new_tab()
        await first.until(_FORM)
        await _by_token(first, supabase_local)
        await first.until(_LIVE)
        second = await new_tab()
        await second.until(_LIVE)
        await second.value("document.querySelector('nav button').click()")
        for page in (first, second):
            await page.until(_FORM)
            assert await page.value("document.querySelector('[role=alert]').textContent") == ""
            assert (await _filled(page))["key"] == ""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_stands_in_the_way_of_a_screen_reader_or_of_a_phone(
    built: Path, tmp_path: Path, supabase_local: SupabaseLocal, scheme: str
) -> None:
    """axe finds no fault; on a narrow screen list and conversation take turns."""
    axe = (JS / "node_modules" / "axe-core" / "axe.min.js").read_text()
    faults = "window.found.violations.map((one) => [one.id, one.nodes.map((n) => n.html)])"

    async def check(page: Page) -> None:
        await page.value(axe)
        await page.value("window.found = null; axe.run().then((it) => { window.found = it })")
        await page.until("window.found !== null")
        assert await page.value(faults) == []

    async with _transcript(tmp_path, supabase_local) as append, _opened(built) as page:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await page.call("Emulation.setEmulatedMedia", features=[feature])
        await check(page)
        call = {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "ls"}}
        thought = {"type": "thinking", "thinking": "hm"}
        await append(claude_line("A prompt"), _answer(thought, {"type": "text", "text": "!"}, call))
        await _by_token(page, supabase_local)
        await page.until(f"{_CONVERSATIONS}.length === 1")
        await page.value(f"{_CONVERSATIONS}[0].click()")
        await page.until("document.querySelector('.scroll details') !== null")
        await page.value("for (const one of document.querySelectorAll('details')) one.open = true")
        await check(page)

        size = {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": True}
        await page.call("Emulation.setDeviceMetricsOverride", **size)
        seen = "['nav', 'main'].map((name) => document.querySelector(name).offsetHeight > 0)"
        assert await page.value(seen) == [False, True]
        await check(page)
        await page.value("document.querySelector('.back').click()")
        await page.until(f"{seen}[0]")
        assert await page.value(seen) == [True, False]
        assert await page.value("document.documentElement.scrollWidth <= innerWidth") is True
