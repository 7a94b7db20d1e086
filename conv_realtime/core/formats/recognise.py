"""Whose transcript a file is, and which conversation it states, from its name and first bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from conv_realtime.core.formats import claude_code, claude_records
from conv_realtime.core.framing import LineBuffer
from conv_realtime.core.records import Record, read_records

HEAD_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Recognised:
    """A file of `source` that states session `session`, or its subagent `agent`.

    `named` when the file is named like the session, as the original is and a copy may not be.
    """

    source: str
    session: str
    agent: str | None
    named: bool


def recognise(path: PurePath, head: bytes, *, resting: bool) -> Recognised | str | None:
    """Return what the file is, a reason why it is not read, or None where more is needed.

    Args:
        path: where the file lies.
        head: its first bytes, up to `HEAD_BYTES`.
        resting: whether nothing is expected to be added soon, so a last line without a
            newline counts.
    """
    name = claude_code.FileName(path)
    session, ours = name.session, False
    for record in _records(head, resting):
        if not ours:
            verdict = claude_code.belongs(record.fields)
            if verdict is False:
                return "not a transcript of a known assistant"
            ours = verdict is True
        session = session or claude_records.text(record.fields.get("sessionId"))
        if ours and session is None and claude_records.makes_message(record.fields):
            session = name.fallback_session
        if ours and session is not None:
            return Recognised(claude_code.SOURCE, session, name.agent, name.session == session)
    if len(head) >= HEAD_BYTES:
        return "no record of a known assistant in its first 4 MiB"
    return None


def _records(head: bytes, resting: bool) -> list[Record]:
    buffer = LineBuffer(max_line_bytes=HEAD_BYTES)
    lines = list(buffer.push(head))
    if resting and (rest := buffer.rest()) is not None:
        lines.append(rest)
    return [found for line in lines for found in read_records(line) if isinstance(found, Record)]
