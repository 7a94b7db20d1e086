"""Handlers without a server: say when an assistant waits for you.

export SUPABASE_URL=... SUPABASE_SECRET_KEY=... CONV_REALTIME_OWNER_ID=...
python examples/handlers.py
"""

from __future__ import annotations

import asyncio

from conv_realtime import Bridge, ConversationUpdate, NewMessage

bridge = Bridge()


@bridge.on("new_message", role="assistant")
async def answered(event: NewMessage) -> None:
    """Show the beginning of each answer."""
    title = event.data.conversation.title if event.data.conversation else None
    print(f"{title or event.data.conversation_id}: {event.data.text[:80]}")


@bridge.on("conversation_update", activity="waiting")
async def waiting(event: ConversationUpdate) -> None:
    """Ring once when it is your turn."""
    print(f"\a{event.data.title or event.data.id} waits for you")


async def main() -> None:
    """Run until interrupted."""
    async with bridge:
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
