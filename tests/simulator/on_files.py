"""What a day does to files, each unless it makes no sense now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from tests.simulator.transcripts import File

if TYPE_CHECKING:
    from tests.simulator.day import Day

OnFile = Callable[..., Awaitable[None]]


def _growing(name: str) -> OnFile:
    async def act(day: Day, file: File, *given: Any) -> None:
        if file.exists:
            getattr(file, name)(*given)

    return act


def _rewriting(name: str, *, unrelated: bool = False) -> OnFile:
    async def act(day: Day, file: File, *given: Any) -> None:
        if file.exists:
            await day.rewriting(file, lambda: getattr(file, name)(*given), unrelated=unrelated)

    return act


def _hiding(name: str) -> OnFile:
    async def act(day: Day, file: File) -> None:
        if file.exists and not file.away:
            getattr(file, name)()

    return act


def _copying(*, linked: bool) -> OnFile:
    async def act(day: Day, file: File) -> None:
        if file.exists:
            if file.part.pending:
                await day.rest("before it is copied")
            file.copy(linked)

    return act


async def _moving(day: Day, file: File) -> None:
    if file.exists:
        if file.part.pending:
            await day.rest("before it is moved")
        file.move()


ON_FILES: dict[str, OnFile] = {
    "begin line": _growing("begin_line"),
    "leave line": _growing("leave_line"),
    "append unended": _growing("append_unended"),
    "replace grown": _growing("replace_grown"),
    "come back": _growing("come_back"),
    "drop copies": _growing("drop_copies"),
    "cut": _rewriting("cut"),
    "rewind": _rewriting("rewind"),
    "edit": _rewriting("edit"),
    "bring back": _rewriting("bring_back"),
    "replace unrelated": _rewriting("replace_unrelated", unrelated=True),
    "rotate": _rewriting("rotate", unrelated=True),
    "vanish": _hiding("vanish"),
    "empty": _hiding("empty"),
    "move": _moving,
    "copy": _copying(linked=False),
    "link": _copying(linked=True),
}
