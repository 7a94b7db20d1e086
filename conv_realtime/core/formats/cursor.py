"""Cursor's agents: `{"role", "message": {"content": […]}}` a line, without ids, times or models.

Appended. `agent-transcripts/<id>/<id>.jsonl`, of the command line `agent-transcripts/<id>.jsonl`;
subagents lie in the session's folder `subagents`. What tools gave back is left out by Cursor. A
prompt stands between `<user_query>` tags, behind what the editor added.

Evidence: the reports of its users, who agree: whistler in
Dicklesworthstone/coding_agent_session_search#306, caura-ai/caura#612 and
AgentWorkforce/relayhistory#198, where 104 real transcripts are counted. No file was seen here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from conv_realtime.core.blocks import Block, as_blocks
from conv_realtime.core.conversation_fold import ConversationFold, Entry
from conv_realtime.core.fields import mapping, text
from conv_realtime.core.format import Claim, Head, Machine
from conv_realtime.core.formats import openai_messages as openai
from conv_realtime.core.json_lines import JsonLines, JsonLinesTranscript, Noted, Said
from conv_realtime.core.records import Record
from conv_realtime.core.sanitize import Sanitizer

_FOLDER = "agent-transcripts"


class Cursor(JsonLines):
    """Cursor's agent transcripts."""

    source = "cursor"
    title = "Cursor"

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return the folder of projects."""
        return [machine.home / ".cursor" / "projects"]

    def is_named(self, path: str) -> bool:
        """Return whether the file lies where transcripts do."""
        return path.endswith(self.suffix) and _FOLDER in path

    def session(self, path: PurePath, records: Sequence[Mapping[str, Any]]) -> str | None:
        """Return the file's name, of a subagent that of the session's folder."""
        known = any(
            openai.role(record.get("role")) and isinstance(record.get("message"), dict)
            for record in records
        )
        return (path.parts[-3] if _is_subagent(path) else path.stem) if known else None

    def claim(self, path: PurePath, head: Head) -> Claim:
        """Return which session the file is of, once there is more than ends of turns."""
        if all(_ends_turn(record.fields) for record in head.records):
            return "unsure"
        return super().claim(path, head)

    def agent(self, path: PurePath) -> str | None:
        """Return the name of a file among a session's subagents."""
        return path.stem if _is_subagent(path) else None

    def transcript(self, path: PurePath, sanitizer: Sanitizer) -> CursorTranscript:
        """Return the fold of a file."""
        return CursorTranscript(self, path, sanitizer)

    def noted(self, fields: Mapping[str, Any]) -> Noted:
        """Return what the end of a turn says."""
        if not _ends_turn(fields):
            return Noted()
        failed = fields.get("status") == "error"
        return Noted(state=("error" if failed else "active", "waiting"))

    def said(self, fields: Mapping[str, Any]) -> Said | None:
        """Return the message of a line."""
        role = openai.role(fields.get("role"))
        if role is None:
            return None
        content = mapping(fields.get("message")).get("content")
        found = [_block(block) if role == "user" else block for block in as_blocks(content)]
        # A call is the only sign of work: its answer is not there.
        calls = any(block.get("type") == "tool_use" for block in found)
        return Said(role, found, state=("active", "working") if calls else None)


class CursorTranscript(JsonLinesTranscript):
    """The fold of one file. Calls of tools have no ids and no answers: they are only counted."""

    def take(self, fold: ConversationFold, record: Record, said: Said) -> Entry:
        """Take a message."""
        entry = super().take(fold, record, said)
        calls = [
            block for block in as_blocks(list(said.content)) if block.get("type") == "tool_use"
        ]
        fold.tool_ids.update(f"@{record.start}.{number}" for number in range(len(calls)))
        return entry


def _ends_turn(fields: Mapping[str, Any]) -> bool:
    return fields.get("type") == "turn_ended"


def _is_subagent(path: PurePath) -> bool:
    return len(path.parts) > 2 and path.parent.name == "subagents"


def _block(block: Block) -> Block:
    if block.get("type") != "text":
        return block
    # Not by an expression, which spaces stall: a prompt may hold any number of them.
    _, _, begun = (text(block.get("text")) or "").partition("<user_query>")
    prompt, ended, _ = begun.partition("</user_query>")
    return {**block, "text": prompt.strip()} if ended else block
