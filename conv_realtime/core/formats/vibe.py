"""Mistral Vibe: OpenAI-like messages in `<session>/messages.jsonl`, `meta.json` beside it.

Appended, flushed line by line; without times and tokens. Its title, working directory, branch and
total of tokens are in `meta.json`, which is rewritten whole and not read. The session is named by
its folder, `session_<time>_<id>`; a subagent's is `agents/<agent>_<time>_<id>` in it. What the
client puts in for itself is marked `injected`. The folder `unified`, of Vibe's newer harness, holds
another format, which is not read.

Evidence: `vibe/core/session/session_logger.py` and `vibe/core/types.py` of mistralai/mistral-vibe
at ac8f1a0, `vibe/core/tools/builtins/task.py` at 11f76911, and kenn-io/agentsview's test file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from conv_realtime.core.fields import text
from conv_realtime.core.format import Machine
from conv_realtime.core.formats import openai_messages as openai
from conv_realtime.core.json_lines import JsonLines, Said


class Vibe(JsonLines):
    """Mistral Vibe's sessions."""

    source = "vibe"
    title = "Mistral Vibe"

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return the folder of sessions."""
        return [home / "logs" / "session" for home in machine.folders("VIBE_HOME", ".vibe")]

    def is_named(self, path: str) -> bool:
        """Return whether the file is named as a session's messages are."""
        return path.endswith(("/messages.jsonl", "\\messages.jsonl"))

    def session(self, path: PurePath, records: Sequence[Mapping[str, Any]]) -> str | None:
        """Return the name of the folder, of a subagent that of its session's."""
        first = records[0]
        if not openai.role(first.get("role")) or not ("message_id" in first or "injected" in first):
            return None
        return path.parents[2].name if _is_subagent(path) else path.parent.name

    def agent(self, path: PurePath) -> str | None:
        """Return the name of a folder among a session's subagents."""
        return path.parent.name if _is_subagent(path) else None

    def said(self, fields: Mapping[str, Any]) -> Said | None:
        """Return the message."""
        role = openai.role(fields.get("role")) or "other"
        injected = role == "user" and fields.get("injected") is True
        return Said(
            "system" if injected else role, openai.blocks(fields), text(fields.get("message_id"))
        )


def _is_subagent(path: PurePath) -> bool:
    return len(path.parts) > 3 and path.parents[1].name == "agents"
