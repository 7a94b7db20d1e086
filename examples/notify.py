"""A notification on the desktop when an assistant waits for you.

    conv-realtime up
    python examples/notify.py

You will see one when an assistant has answered and has been quiet for two seconds: by
`notify-send` on Linux, by `osascript` on macOS, and as a line with a bell in the terminal in any
case. It follows `/ws`, so it comes back after sleep and restarts; answers older than a minute are
no news. Of a relay elsewhere give the address, and its token in CONV_REALTIME_WS_TOKEN:

    python examples/notify.py ws://another-machine:8787/ws
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

from conv_realtime import ConversationUpdate, NewConversation, connect
from conv_realtime.events import ConversationData

QUIET_SECONDS = 2.0  # what is said between two calls of tools looks like an answer until the second
NEWS = timedelta(minutes=1)
SCRIPT = (
    *("-e", "on run argv"),
    *("-e", "display notification (item 2 of argv) with title (item 1 of argv)"),
    *("-e", "end run"),
)


class Bell:
    """Rings once for each answer.

    Args:
        tasks: where it waits for the quiet.
    """

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._waiting: dict[UUID, asyncio.Task[None]] = {}
        self._rung: dict[UUID, int] = {}  # how many messages a conversation had then

    def hear(self, row: ConversationData) -> None:
        """Take the newest state of a conversation."""
        if waiting := self._waiting.pop(row.id, None):
            waiting.cancel()
        new = row.updated_at is not None and datetime.now(UTC) - row.updated_at < NEWS
        if row.activity == "waiting" and new and self._rung.get(row.id) != row.message_count:
            self._waiting[row.id] = self._tasks.create_task(self._ring(row), name="bell")

    async def _ring(self, row: ConversationData) -> None:
        await asyncio.sleep(QUIET_SECONDS)
        self._rung[row.id] = row.message_count
        await notify(f"{row.source.replace('_', ' ')} waits for you", row.title or str(row.id))


async def notify(title: str, text: str) -> None:
    """Show a notification."""
    print("\a" + "".join(filter(str.isprintable, f"{title}: {text}")))
    command: list[str] = []
    if shutil.which("notify-send"):
        command = ["notify-send", "--app-name=conv_realtime", "--", title, text]
    elif shutil.which("osascript"):
        command = ["osascript", *SCRIPT, title, text]
    if command:
        await (await asyncio.create_subprocess_exec(*command)).wait()


async def main(url: str) -> None:
    """Run until interrupted."""
    wanted = {"types": ["new_conversation", "conversation_update"]}
    token = os.environ.get("CONV_REALTIME_WS_TOKEN")
    async with (
        connect(url, token=token, subscribe=wanted) as live,
        asyncio.TaskGroup() as tasks,
    ):
        print(f"listening to {url}")
        bell = Bell(tasks)
        async for event in live:
            if isinstance(event, NewConversation | ConversationUpdate):
                bell.hear(event.data)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:] or ["ws://127.0.0.1:8787/ws"]))
