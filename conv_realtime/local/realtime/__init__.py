"""Channels and broadcasts: what Realtime sends, in both of its protocols."""
