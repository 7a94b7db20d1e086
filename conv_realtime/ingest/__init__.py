"""Ingest: transcript files become rows. It never imports the relay."""

from __future__ import annotations

from conv_realtime.ingest.follow import Follower as Follower
from conv_realtime.ingest.river import Ingest as Ingest
from conv_realtime.ingest.river import Progress as Progress
from conv_realtime.ingest.river import Summary as Summary

__all__ = ["Ingest", "Progress", "Summary"]
