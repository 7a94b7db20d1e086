"""Ingest: transcript files become rows. It never imports the relay."""

from __future__ import annotations

from conv_realtime.ingest.catching_up import Progress, Summary
from conv_realtime.ingest.river import Ingest
from conv_realtime.ingest.verifying import Verified

__all__ = ["Ingest", "Progress", "Summary", "Verified"]
