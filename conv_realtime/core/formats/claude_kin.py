"""Assistants that write Claude Code's lines: OpenClaude, Qoder, iFlow.

OpenClaude's and Qoder's are told from Claude Code's by their folder alone, and read the same.
iFlow names its files and sessions `session-<uuid>`, and writes a response while it grows: each
line has what its window shows of it, under another id. Lines in a row that share a call of a tool
are one message. What a tool gave back is wrapped once more.

Evidence: an iFlow session of kenn-io/agentsview's tests, and its parsers at 538600744 for the
places of all three: `openclaude.go`, `qoder_paths.go`, `iflow.go`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, ClassVar

from conv_realtime.core.blocks import Block, tools
from conv_realtime.core.fields import mapping, text
from conv_realtime.core.format import Claim, Head, Machine, Recognised
from conv_realtime.core.formats.claude_code import ClaudeCode, ClaudeTranscript, is_iflows
from conv_realtime.core.records import Record
from conv_realtime.core.sanitize import Sanitizer


class _InFolder(ClaudeCode):
    """Claude Code's format, in folders that are named otherwise."""

    folders: ClassVar[frozenset[str]]

    def is_named(self, path: str) -> bool:
        """Return whether the file lies in one of the assistant's folders."""
        return super().is_named(path) and not self.folders.isdisjoint(
            path.replace("\\", "/").split("/")
        )

    def transcript(self, path: PurePath, sanitizer: Sanitizer) -> ClaudeTranscript:
        """Return the fold of a session's file."""
        found = ClaudeTranscript(path, sanitizer)
        found.source = self.source
        return found


class OpenClaude(_InFolder):
    """OpenClaude's sessions."""

    source = "openclaude"
    title = "OpenClaude"
    folders = frozenset({".openclaude"})

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return `projects` in the configuration folder."""
        homes = machine.folders("OPENCLAUDE_CONFIG_DIR", ".openclaude")
        return [home / "projects" for home in homes]


class Qoder(_InFolder):
    """Qoder's sessions."""

    source = "qoder"
    title = "Qoder"
    folders = frozenset({".qoder", ".qoderwork", "Qoder"})

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return the folders of its command line, and of its editor."""
        shared = PurePath("SharedClientCache", "cli", "projects")
        return [
            machine.home / ".qoder" / "projects",
            machine.home / ".qoderwork" / "projects",
            *(app / shared for app in machine.app_data("Qoder")),
        ]


class IFlow(ClaudeCode):
    """iFlow's sessions."""

    source = "iflow"
    title = "iFlow"

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return the folder of projects."""
        return [machine.home / ".iflow" / "projects"]

    def claim(self, path: PurePath, head: Head) -> Claim:
        """Return which session the file is of, by its first line."""
        if not head.records:
            return "unsure"
        stated = text(head.records[0].fields.get("sessionId"))
        if stated is None or not is_iflows(stated):
            return None
        session = _named(path) or stated
        return Recognised(self.source, session, named=path.stem == session)

    def transcript(self, path: PurePath, sanitizer: Sanitizer) -> IFlowTranscript:
        """Return the fold of a session's file."""
        return IFlowTranscript(path, sanitizer)


class IFlowTranscript(ClaudeTranscript):
    """The fold of one file of iFlow."""

    source = IFlow.source

    def __init__(self, path: PurePath, sanitizer: Sanitizer) -> None:
        super().__init__(path, sanitizer)
        named = _named(path)
        self.session = self.id(named) if named else None
        self._windows: dict[str, str] = {}  # the message that calls a tool, until it is answered

    def add(self, record: Record) -> None:
        """Take the next record; the session that it names may be the one it came from."""
        super().add(record)
        stated = text(record.fields.get("sessionId"))
        fold = self.fold()
        if stated and fold.parent is None and self.id(stated) != self.session:
            fold.fork(self.id(stated))

    def blocks(self, fields: Mapping[str, Any]) -> list[Block]:
        """Return what a record says, what tools gave back unwrapped."""
        return [_unwrapped(block) for block in super().blocks(fields)]

    def native(self, fields: Mapping[str, Any], found: list[Block]) -> str | None:
        """Return the message of an earlier window that shows the same call, else its own."""
        native = super().native(fields, found)
        if fields.get("type") != "assistant":
            self._windows.clear()
            return native
        calls, _ = tools(found)
        known = next((self._windows[call] for call in calls if call in self._windows), native)
        if known is not None:
            self._windows.update(dict.fromkeys(calls, known))
        return known


def _named(path: PurePath) -> str | None:
    return path.stem if is_iflows(path.stem) else None


def _unwrapped(block: Block) -> Block:
    if block.get("type") != "tool_result":
        return block
    parts = mapping(mapping(block.get("content")).get("responseParts"))
    response = mapping(mapping(parts.get("functionResponse")).get("response"))
    output = text(response.get("output")) or text(response.get("error"))
    return {**block, "content": output} if output else block
