"""Supabase as a source of changes: the database for what is true, Realtime for when to look."""

from conv_realtime.edges.feed.supabase import SupabaseFeed

__all__ = ["SupabaseFeed"]
