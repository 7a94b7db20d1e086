"""A store at a Supabase or at nobody's address, and rows to write."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

from conv_realtime.edges.store import SupabaseStore, http_client
from conv_realtime.models import Conversation, Message, Project
from conv_realtime.settings import Settings
from conv_realtime.supabase_client import new_client

URL = "http://127.0.0.1:9"


AT = datetime(2026, 1, 2, tzinfo=UTC)


@asynccontextmanager
async def supabase_store(url: str, key: str) -> AsyncIterator[SupabaseStore]:
    """A store at that address, with that key."""
    settings = Settings(supabase_url=url, supabase_key=key, request_timeout=5)
    async with http_client(settings.request_timeout) as http:
        yield SupabaseStore(await new_client(settings, http))


def rows_of_one(owner: str, count: int = 2) -> tuple[Project, Conversation, list[Message]]:
    """Gives a project, a conversation in it, and messages of that."""
    who = UUID(owner)
    project = Project(id=uuid4(), owner_id=who, machine="m", path="/p", name="p", updated_at=AT)
    conversation = Conversation(
        id=uuid4(), owner_id=who, project_id=project.id, source="x", machine="m",
        session_id="s", revision=9, updated_at=AT,
    )  # fmt: skip
    messages = [
        Message(
            id=uuid4(), owner_id=who, conversation_id=conversation.id, seq=n, revision=n + 1,
            role="user", text=f"é {n} 😀", content=[{"type": "text", "text": "x"}], created_at=AT,
        )
        for n in range(count)
    ]  # fmt: skip
    return project, conversation, messages
