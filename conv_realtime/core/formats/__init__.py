"""One file per transcript format: bytes of one file → records → conversation and messages."""

from __future__ import annotations

from conv_realtime.core.format import Format
from conv_realtime.core.formats.aider import Aider
from conv_realtime.core.formats.chat_lines import ChatDataset, ChatLog
from conv_realtime.core.formats.chatgpt import ChatGpt
from conv_realtime.core.formats.claude_ai import ClaudeAi
from conv_realtime.core.formats.claude_code import ClaudeCode
from conv_realtime.core.formats.claude_kin import IFlow, OpenClaude, Qoder
from conv_realtime.core.formats.cline_tasks import Cline, RooCode
from conv_realtime.core.formats.codex import Codex
from conv_realtime.core.formats.continue_dev import Continue
from conv_realtime.core.formats.copilot_cli import CopilotCli
from conv_realtime.core.formats.cursor import Cursor
from conv_realtime.core.formats.gemini_json import GeminiJson
from conv_realtime.core.formats.gemini_log import GeminiLog
from conv_realtime.core.formats.gptme import Gptme
from conv_realtime.core.formats.kimi_cli import KimiCli
from conv_realtime.core.formats.opencode import OpenCode
from conv_realtime.core.formats.pi import Pi
from conv_realtime.core.formats.qwen_code import QwenCode
from conv_realtime.core.formats.vibe import Vibe

BUILT_IN: tuple[Format, ...] = (
    Gptme(),
    Vibe(),
    Cursor(),
    QwenCode(),
    CopilotCli(),
    Pi(),
    KimiCli(),
    Aider(),
    IFlow(),
    OpenClaude(),
    Qoder(),
    ClaudeCode(),
    Codex(),
    GeminiLog(),
    GeminiJson(),
    Continue(),
    RooCode(),
    Cline(),
    ChatGpt(),
    ClaudeAi(),
    OpenCode(),
    ChatLog(),
    ChatDataset(),
)
"""The formats that are read without being asked for, in the order in which they claim a file."""
