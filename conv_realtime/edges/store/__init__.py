"""Supabase as a store: idempotent upserts through supabase-py, every foreign error mapped.

* `supabase`: the store itself
* `forgetting`: erasing a conversation for good
* `queries`: questions with long answers
* `answers`: errors, and what an answer says beside its body
"""

from __future__ import annotations

from conv_realtime.edges.store.answers import advised, http_client, mapped
from conv_realtime.edges.store.forgetting import Family, family, forget
from conv_realtime.edges.store.supabase import HISTORY_HEADER, MORE_HEADER, SupabaseStore

__all__ = [
    "HISTORY_HEADER",
    "MORE_HEADER",
    "Family",
    "SupabaseStore",
    "advised",
    "family",
    "forget",
    "http_client",
    "mapped",
]
