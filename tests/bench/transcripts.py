"""Written transcripts of Claude Code whose lines are as long, and as many of a kind, as real ones.

Counted in the samples beside a checkout: what tools gave back, which is stated twice on its line,
is half of the bytes (median 2 KB, one in ten above 13 KB, one in a hundred above 35 KB), a call
1.1 KB, an answer 0.9 KB, thinking with its signature 1.2 KB, and beside a call stand some lines of
progress of 0.6 KB. One result in 500 is 200 KB.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

_BEGUN = datetime(2025, 1, 1, tzinfo=UTC)
_WORDS = [f"word{number:03}" for number in range(400)]
_LINES = ('    {0} = {1}["{2}"]\n', "def {0}({1}: str) -> {2}:\n", "\t{0}/{1}/{2}.py:12: {0}\n")
_RARE = "✓ {0} — {1} “{2}”\n"
_CUT = 30_000  # characters of what a command printed; Claude Code cuts there
_LARGE = 100_000


class Session:
    """Writes one session: prompts, and turns of thinking, calls and results.

    Args:
        seed: what is drawn from.
        stretch: by how much what tools give back is longer than in real ones.
    """

    def __init__(self, seed: int, *, stretch: float = 1.0) -> None:
        self._draw = random.Random(seed)
        self._stretch = stretch
        self._said = "".join(
            self._draw.choice((*_LINES * 10, _RARE)).format(*self._draw.choices(_WORDS, k=3))
            for _ in range(8000)
        )
        self._last: str | None = None
        self._records = 0
        self.id = self._uuid()

    def lines(self) -> Iterator[bytes]:
        """Yield lines without end, each with its newline."""
        draw = self._draw
        while True:
            yield self._line("user", message={"role": "user", "content": self._text(300, 1.2)})
            for _ in range(draw.randint(2, 12)):
                yield from self._turn()
            yield self._answer(f"msg_{draw.getrandbits(96):024x}", {"type": "text"}, "end_turn")

    def _turn(self) -> Iterator[bytes]:
        draw = self._draw
        message, call = f"msg_{draw.getrandbits(96):024x}", f"toolu_{draw.getrandbits(96):024x}"
        if draw.random() < 0.2:
            yield self._answer(message, {"type": "thinking", "signature": "Eq" * 200}, None)
        given = {"command": self._text(180, 0.9), "description": self._text(40, 0.3)}
        block = {"type": "tool_use", "id": call, "name": "Bash", "input": given}
        yield self._answer(message, block, "tool_use")
        for _ in range(draw.randint(0, 4)):
            data = {"type": "hook_progress", "hookEvent": "PreToolUse", "command": "hooks/check.sh"}
            yield self._line("progress", data=data, parentToolUseID=call, toolUseID=call)
        large = draw.random() < 0.002
        text = self._part(_LARGE) if large else self._text(int(600 * self._stretch), 1.65)
        result = {"type": "tool_result", "tool_use_id": call, "content": text, "is_error": False}
        yield self._line(
            "user",
            message={"role": "user", "content": [result]},
            toolUseResult={"stdout": text, "stderr": "", "interrupted": False},
        )

    def _answer(self, message: str, block: dict[str, Any], stop: str | None) -> bytes:
        if (kind := block["type"]) != "tool_use":
            block = {**block, kind: self._text(250, 0.8)}
        usage = {
            "input_tokens": self._draw.randint(1, 20),
            "cache_creation_input_tokens": self._draw.randint(100, 5_000),
            "cache_read_input_tokens": self._draw.randint(10_000, 150_000),
            "output_tokens": self._draw.randint(1, 2_000),
            "service_tier": "standard",
        }
        said = {
            "id": message, "type": "message", "role": "assistant", "model": "claude-bench-1",
            "content": [block], "stop_reason": stop, "stop_sequence": None, "usage": usage,
        }  # fmt: skip
        return self._line("assistant", message=said, requestId=f"req_{message}")

    def _line(self, kind: str, **fields: Any) -> bytes:
        uuid, parent = self._uuid(), self._last
        self._last = uuid
        self._records += 1
        record = {
            "parentUuid": parent, "isSidechain": False, "userType": "external",
            "cwd": "/home/someone/projects/something", "sessionId": self.id, "version": "2.1.39",
            "gitBranch": "main", "type": kind, **fields, "uuid": uuid,
            "timestamp": _BEGUN + timedelta(milliseconds=700 * self._records),
        }  # fmt: skip
        return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)

    def _text(self, median: int, spread: float) -> str:
        """Return text of about so many characters, longer ones as often as `spread` says."""
        return self._part(min(int(self._draw.lognormvariate(0, spread) * median) + 1, _CUT))

    def _part(self, size: int) -> str:
        start = self._draw.randrange(len(self._said) - size)
        return self._said[start : start + size]

    def _uuid(self) -> str:
        return str(UUID(int=self._draw.getrandbits(128), version=4))


def write_session(folder: Path, size: int, seed: int, *, stretch: float = 1.0) -> Path:
    """Write one session of at least `size` bytes into a folder; return its path."""
    session = Session(seed, stretch=stretch)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{session.id}.jsonl"
    with path.open("wb") as file:
        for line in session.lines():
            file.write(line)
            if file.tell() >= size:
                return path
    raise AssertionError("a session has no end")
