"""A conversation that types itself, in Claude Code's format, for people without transcripts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

Record = dict[str, Any]

_MODEL = "claude-demo"
_PROJECT = "/home/you/lighthouse"

_TALK: tuple[tuple[str, str], ...] = (
    ("user", "The lamp in src/lamp.py blinks twice at midnight. Can you find out why?"),
    ("assistant", "I will read the timer first; a lamp that blinks twice was told to, twice."),
    ("tool", "src/lamp.py"),
    ("assistant", "Found it: `every_night` is called when the module is imported."),
    ("more", "It is called again in `main()`, so at midnight **both** timers fire."),
    ("user", "Remove the one at import, please, and add a test."),
    ("assistant", "Done. Importing the module starts no timer any more."),
    ("more", "The new test counts the blinks of a simulated night:\n\n```\n1 passed in 0.02s\n```"),
    ("user", "Lovely. What did the sailors say?"),
    ("assistant", "That the night is quieter now."),
)


async def typing(folder: Path, ready: asyncio.Event, *, pace: float = 1.0) -> None:
    """Write the conversation into a new transcript under `folder` once `ready` is set.

    A line comes every 0.8 s / `pace`, and the whole a single time.
    """
    await ready.wait()
    session = str(uuid4())
    project = folder / "-home-you-lighthouse"
    project.mkdir(parents=True, exist_ok=True)
    transcript = project / f"{session}.jsonl"
    for record in _records(session):
        record["timestamp"] = datetime.now(UTC).isoformat(timespec="milliseconds")
        with transcript.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        await asyncio.sleep(0.8 / pace)


def _records(session: str) -> Iterator[Record]:
    """Yield the records without their times; a response in two parts shares a message id."""
    parent: str | None = None
    response = 0
    for number, (kind, text) in enumerate(_TALK):
        if kind == "assistant":
            response += 1
        for record in _of(kind, text, response, number):
            record |= {
                "uuid": str(uuid4()),
                "parentUuid": parent,
                "sessionId": session,
                "cwd": _PROJECT,
                "gitBranch": "main",
                "version": "demo",
                "isSidechain": False,
                "userType": "external",
            }
            parent = record["uuid"]
            yield record


def _of(kind: str, text: str, response: int, number: int) -> Iterator[Record]:
    if kind == "user":
        yield {"type": "user", "message": {"role": "user", "content": text}}
    elif kind == "tool":
        call = f"toolu_demo_{number}"
        use = {"type": "tool_use", "id": call, "name": "Read", "input": {"file_path": text}}
        result = {"type": "tool_result", "tool_use_id": call, "content": "every_night(blink)\n"}
        yield _assistant(use, response, number)
        yield {"type": "user", "message": {"role": "user", "content": [result]}}
    else:
        yield _assistant({"type": "text", "text": text}, response, number)


def _assistant(block: Record, response: int, number: int) -> Record:
    usage = {"input_tokens": 40 + number, "output_tokens": 12 * (number + 1)}
    message = {
        "id": f"msg_demo_{response}",
        "type": "message",
        "role": "assistant",
        "model": _MODEL,
        "content": [block],
        "stop_reason": None,
        "usage": usage,
    }
    return {"type": "assistant", "requestId": f"req_demo_{response}", "message": message}
