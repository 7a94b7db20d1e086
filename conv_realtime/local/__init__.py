"""The local Supabase: a real PostgreSQL of our own behind Supabase's Data API and Realtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conv_realtime.local.stack import LocalSupabase

__all__ = ["LocalSupabase"]


def __getattr__(name: str) -> Any:
    """Loads the database driver and the server only when they are asked for."""
    if name == "LocalSupabase":
        from conv_realtime.local.stack import LocalSupabase

        return LocalSupabase
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
