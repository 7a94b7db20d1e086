"""Handlers in a program of yours: what assistants answer, as it comes.

    conv-realtime local                  # a Supabase on this machine; prints what to set
    export SUPABASE_URL=... SUPABASE_SECRET_KEY=... CONV_REALTIME_OWNER_ID=...
    python examples/handlers.py

You will see the beginning of each answer behind the title of its conversation, and hear the
terminal ring when an assistant waits for you. Nothing is served; rows go to Supabase as always.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from conv_realtime import Bridge, ConversationUpdate, NewMessage

bridge = Bridge()


@bridge.on("new_message", role="assistant")
async def answered(event: NewMessage) -> None:
    """Show the beginning of each answer."""
    title = event.data.conversation.title if event.data.conversation else None
    show(f"{title or event.data.conversation_id}: {event.data.text[:80]}")


@bridge.on("conversation_update", activity="waiting")
async def waiting(event: ConversationUpdate) -> None:
    """Ring when it is your turn; `notify.py` waits until it is quiet, and rings once."""
    print("\a", end="")
    show(f"{event.data.title or event.data.id} waits for you")


def show(line: str) -> None:
    """Print what a transcript says without what could control a terminal."""
    print("".join(filter(str.isprintable, line)))


async def main() -> None:
    """Run until interrupted."""
    async with bridge:
        await asyncio.Event().wait()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
