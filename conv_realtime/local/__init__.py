"""The local Supabase: a real PostgreSQL of our own behind Supabase's Data API and Realtime.

It runs on Linux and macOS; elsewhere importing it says so.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from conv_realtime.errors import ConfigError

if TYPE_CHECKING:
    from conv_realtime.local.stack import LocalSupabase

__all__ = ["LocalSupabase"]


def __getattr__(name: str) -> Any:
    """Loads the database driver and the server only when they are asked for."""
    if name == "LocalSupabase":
        from conv_realtime.local.stack import LocalSupabase

        return LocalSupabase
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if sys.platform == "win32":
    raise ConfigError(
        "SUPABASE_URL",
        "set it, and SUPABASE_SECRET_KEY: the local Supabase runs on Linux and macOS only",
    )
