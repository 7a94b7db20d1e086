"""Secrets stay home: one in every field of a transcript, and none in anything that leaves it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from conv_realtime.testing import claude_line
from tests.cli.conftest import Runner

WITHIN = 20.0
_LAST = "the very last"


class Purse:
    """Gives out secrets, no two alike."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def take(self) -> str:
        """Return another secret."""
        self.given.append("gh" + "p_" + "a1B2" * 9 + f"{len(self.given):03}")
        return self.given[-1]

    def leaks(self, text: str) -> list[str]:
        """Return those that are in `text`, or `["half"]` where there is only some of one."""
        whole = [one for one in self.given if one[4:] in text]
        return whole or ["half"] * ("a1B2a1B2" in text)


def _records(purse: Purse, session: str) -> Iterator[dict[str, Any]]:
    """Yield records with a secret in every field that Claude Code writes, known to us or not."""
    secret = purse.take
    base = {"sessionId": session, "cwd": f"/home/{secret()}", "gitBranch": secret(), secret(): 1}
    ids = iter(range(100))

    def record(kind: str, **fields: Any) -> dict[str, Any]:
        return {"type": kind, "uuid": f"{next(ids)}-{secret()}", "parentUuid": secret()} | base | {
            "timestamp": "2026-01-01T00:00:00Z", "version": secret(), "requestId": secret(),
            "userType": secret(), "slug": secret(), **fields,
        }  # fmt: skip

    def said(*blocks: Any) -> dict[str, Any]:
        return {
            "id": f"msg_{secret()}", "type": "message", "role": "assistant", "model": secret(),
            "content": list(blocks), "stop_reason": secret(), "stop_sequence": secret(),
            "usage": {"input_tokens": 1, "output_tokens": 1, "service_tier": secret()},
        }  # fmt: skip

    yield record("summary", summary=f"about {secret()}", leafUuid=secret())
    yield record("custom-title", customTitle=f"title {secret()}")
    yield record("user", message={"role": "user", "content": f"my key is {secret()}"})
    yield record("user", message={"role": "user", "content": f"{'x' * 95} {secret()}"})
    yield record(
        "assistant",
        message=said(
            {"type": "thinking", "thinking": secret(), "signature": secret()},
            {"type": "text", "text": f"so {secret()}", "citations": [secret()]},
            {
                "type": "tool_use", "id": secret(), "name": secret(),
                "input": {secret(): [{"deep": secret()}], "command": f"curl {secret()}"},
            },
        ),
    )  # fmt: skip
    result = {"type": "tool_result", "tool_use_id": secret(), "content": f"out\n{secret()}"}
    blocks = {"type": "tool_result", "content": [{"type": "text", "text": secret()}]}
    yield record(
        "user",
        message={"role": "user", "content": [result, blocks]},
        toolUseResult={"stdout": secret(), secret(): secret()},
    )
    yield record("system", subtype="informational", content=f"note {secret()}", level=secret())
    yield record("system", subtype="api_error", error={"message": f"refused {secret()}"})
    yield record("attachment", attachment={"type": "queued_command", "prompt": secret()})
    yield record("queue-operation", operation="enqueue", content=secret())
    yield record("of-tomorrow", whatever={secret(): [secret()]})
    yield record("user", isSidechain=True, message={"role": "user", "content": secret()})
    yield record("file-history-snapshot", snapshot={"trackedFileBackups": {secret(): secret()}})


def _write(folder: Path, purse: Purse) -> None:
    """Write transcripts: with a UUID for a name, with a secret, a subagent's, and a torn one."""
    slug = folder / f"-home-{purse.take()}"
    slug.mkdir(parents=True)
    session = "5e551011-0000-4000-8000-00000000000a"
    lines = [json.dumps(record) for record in _records(purse, session)]
    # As other programs write JSON: an escaped letter, an escaped slash.
    escaped = purse.take()
    odd = claude_line("KEY", session=session, cwd="/odd").decode()
    lines.append(odd.strip().replace("KEY", f"\\u0067{escaped[1:]} http:\\/\\/x"))
    torn = '{"type": "user", "message": "' + purse.take()
    (slug / f"{session}.jsonl").write_text("\n".join([*lines, torn, lines[2]]) + "\n")
    named = slug / f"session-of-{purse.take()}.jsonl"
    for name in (named, slug / session / "subagents" / f"agent-{purse.take()}.jsonl"):
        name.parent.mkdir(parents=True, exist_ok=True)
        records = list(_records(purse, purse.take()))
        name.write_text("".join(json.dumps(record) + "\n" for record in records))


def _read(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield what lies in a folder, but for the files of PostgreSQL, which is asked itself."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "supabase" not in path.relative_to(folder).parts:
            yield path, path.read_bytes().decode("latin-1")


async def _frames(url: str, write: Callable[[], object]) -> list[str]:
    """Return every frame of a client that wants everything, through what `write` writes."""
    types = ["new_conversation", "conversation_update", "new_message", "message_update"]
    asked = {"types": [*types, "project_update", "file_update"], "snapshot": 100}
    frames: list[str] = []
    async with asyncio.timeout(WITHIN), websockets.connect(url, max_size=None) as client:
        await client.send(json.dumps({"type": "subscribe", "data": asked}))
        async for frame in client:
            frames.append(str(frame))
            kind = json.loads(frame)["type"]
            if kind == "snapshot" and not json.loads(frame)["data"]["more"]:
                write()
            if kind == "new_message" and _LAST in frames[-1]:
                return frames
    raise AssertionError("the connection ended")


@pytest.mark.timeout(120)
def test_a_secret_in_every_field_leaves_the_machine_in_none(
    conv_realtime: Runner, home: Path
) -> None:
    """Not in the database, on /ws, in logs, in what commands say, nor in the state directory."""
    purse = Purse()
    transcripts = home / ".claude" / "projects"
    _write(transcripts, purse)
    up = conv_realtime("up", "--json", "--port", "0", "--local-port", "0", "--log-level", "debug")
    ready = up.json()

    folder, session = next(transcripts.iterdir()), "5e551011-0000-4000-8000-00000000000b"
    last = claude_line(f"{_LAST} {purse.take()}", session=session)
    write = partial((folder / f"{session}-{purse.take()}.jsonl").write_bytes, last)
    frames = asyncio.run(_frames(ready["ws"], write))
    assert conv_realtime("verify", transcripts).process.wait(60) == 0  # all of it is there
    headers = {"apikey": ready["secret_key"]}
    tables = {
        name: httpx.get(f"{ready['supabase_url']}/rest/v1/{name}", headers=headers).text
        for name in ("projects", "conversations", "messages")
    }
    health = httpx.get(ready["viewer"].rstrip("/") + "/healthz").text
    told = {}
    for name in ("status", "verify", "backfill"):
        command = conv_realtime(name, *([] if name == "status" else [transcripts]))
        told[name] = "\n".join(command.rest()) + command.stderr()
    assert up.end() in (0, 130)

    places = {"frames": "\n".join(frames), "health": health, "logs": up.stderr(), **tables, **told}
    leaks = {place: found for place, text in places.items() if (found := purse.leaks(text))}
    assert leaks == {}
    for place in ("frames", "messages", "conversations", "projects"):
        assert "[redacted:github-token]" in places[place], place
    # The state directory knows files by their paths, and holds nothing else of them.
    paths = "".join(str(path) for path in transcripts.rglob("*"))
    for path, text in _read(home / "state"):
        assert [one for one in purse.leaks(text) if one[4:] not in paths] == [], path
    counted = json.loads(health)["ingest"]["redacted"]["github-token"]
    assert counted > 100 and f"{counted} github-token" in told["status"] + told["backfill"]
