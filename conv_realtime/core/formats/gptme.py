"""gptme: one OpenAI-like message a line in `<conversation>/conversation.jsonl`.

The whole file is written again for each message, nearly always with the same beginning; `/undo`
and edits change it. Messages have no ids: their place is their name. What tools give back are
system messages; what gptme asks by itself is a user's, and begins with `<system>`. Times are the
machine's local ones, without saying so, and taken for UTC. Other branches, and shortened views of
the same conversation, lie in folders beside it and are not read.

Evidence: `gptme/message.py`, `gptme/logmanager/manager.py` and `gptme/dirs.py` of gptme/gptme at
d27f98d3a, and kenn-io/agentsview's test file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from conv_realtime.core.fields import amount, count, mapping, text, time
from conv_realtime.core.format import Machine
from conv_realtime.core.formats import openai_messages as openai
from conv_realtime.core.json_lines import JsonLines, Said
from conv_realtime.models import TOKEN_FIELDS

_USAGE = dict(
    zip(
        TOKEN_FIELDS,
        ("input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens"),
        strict=False,
    )
)


class Gptme(JsonLines):
    """gptme's conversations."""

    source = "gptme"
    title = "gptme"

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return the folder of logs: stated, below XDG's data folder, or the system's."""
        if machine.environ.get("GPTME_LOGS_HOME"):
            return machine.folders("GPTME_LOGS_HOME")
        if machine.environ.get("XDG_DATA_HOME"):
            return [place / "gptme" / "logs" for place in machine.folders("XDG_DATA_HOME")]
        usual = [machine.home / ".local" / "share" / "gptme" / "logs"]
        if machine.platform == "darwin":
            usual.append(machine.home / "Library" / "Application Support" / "gptme" / "logs")
        if machine.platform == "win32":
            # The system's library doubles the name: there is no author.
            data = machine.folders("LOCALAPPDATA", "AppData/Local")
            usual += [place / "gptme" / "gptme" / "logs" for place in data]
        return usual

    def is_named(self, path: str) -> bool:
        """Return whether the file is a conversation's main branch."""
        return path.endswith(("/conversation.jsonl", "\\conversation.jsonl"))

    def session(self, path: PurePath, records: Sequence[Mapping[str, Any]]) -> str | None:
        """Return the name of the folder."""
        first = records[0]
        known = openai.role(first.get("role")) and "content" in first and "timestamp" in first
        return path.parent.name if known else None

    def said(self, fields: Mapping[str, Any]) -> Said | None:
        """Return the message."""
        stated = mapping(fields.get("metadata"))
        call = text(fields.get("call_id"))
        role = openai.role(fields.get("role")) or "other"
        result = role == "tool" or (role == "system" and (call or text(stated.get("tool"))))
        own = role == "user" and (text(fields.get("content")) or "").startswith("<system>")
        # Tokens lay beside the model before they had a place of their own.
        usage = mapping(stated.get("usage")) or stated
        cost = amount(stated.get("cost"))
        return Said(
            "tool" if result else "system" if own else role,
            openai.blocks({**fields, "role": "tool", "tool_call_id": call})
            if result
            else openai.blocks(fields),
            created_at=time(fields.get("timestamp")),
            model=text(stated.get("model")),
            usage={ours: n for ours, key in _USAGE.items() if (n := count(usage.get(key)))},
            state=("active", "working") if own else None,
            metadata={"cost_usd": cost} if cost else {},
        )
