"""One file per transcript format: bytes of one file → records → conversation and messages."""

from __future__ import annotations

from conv_realtime.core.format import Format
from conv_realtime.core.formats.claude_code import ClaudeCode
from conv_realtime.core.formats.codex import Codex
from conv_realtime.core.formats.gemini_log import GeminiLog

BUILT_IN: tuple[Format, ...] = (ClaudeCode(), Codex(), GeminiLog())
"""The formats that are read without being asked for, in the order in which they claim a file."""
