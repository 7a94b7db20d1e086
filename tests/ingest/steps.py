"""Counts what the interpreter does: a cost that neither a clock nor another program changes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

if sys.version_info >= (3, 12):

    def steps(work: Callable[[], object]) -> int:
        """Return how many instructions a piece of work takes, those of what it calls included."""
        done, here = 0, threading.get_ident()
        monitoring, tool = sys.monitoring, sys.monitoring.PROFILER_ID

        def count(code: CodeType, offset: int) -> None:
            nonlocal done
            done += threading.get_ident() == here

        monitoring.use_tool_id(tool, __name__)
        try:
            monitoring.register_callback(tool, monitoring.events.INSTRUCTION, count)
            monitoring.set_events(tool, monitoring.events.INSTRUCTION)
            work()
        finally:
            monitoring.set_events(tool, monitoring.events.NO_EVENTS)
            monitoring.free_tool_id(tool)
        return done

else:

    def steps(work: Callable[[], object]) -> int:
        """Return how many instructions a piece of work takes, those of what it calls included."""
        done = 0

        def count(frame: FrameType, event: str, _: object) -> Any:
            nonlocal done
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            done += event == "opcode"
            return count

        before = sys.gettrace()
        sys.settrace(count)
        try:
            work()
        finally:
            sys.settrace(before)
        return done
