"""Turns changes into `/ws` messages, and hands them to code in the same process."""

from conv_realtime.relay.connections import ConnectionManager
from conv_realtime.relay.local_feed import LocalFeed
from conv_realtime.relay.service import Relay

__all__ = ["ConnectionManager", "LocalFeed", "Relay"]
