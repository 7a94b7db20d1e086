"""The clients that have everything, in groups that get the same bytes.

They share one position in the log, so a level client costs a place in its group and, for what is
published, one write. This is the loop that runs for every client and every message; what it does
beside the kernel's work is measured by `python -m tests.bench --only fanout`.
"""

from __future__ import annotations

from collections.abc import Sequence

from conv_realtime.core.log import Entry
from conv_realtime.core.selection import Selection
from conv_realtime.core.wire import text_frames
from conv_realtime.edges.asgi import Wire, write_to_all
from conv_realtime.relay.client import Client

BEHIND_BYTES = 64 * 1024
"""A socket with more waiting falls behind."""


class Level:
    """Level clients, and the index in the log that they have all been written up to."""

    def __init__(self) -> None:
        self.position = 0
        self.delivered = 0
        self._groups: dict[tuple[Selection, bool], dict[Wire, Client]] = {}

    def __contains__(self, client: Client) -> bool:
        return client.wire in self._groups.get(client.group, ())

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def add(self, client: Client) -> None:
        """Take a client in that has everything up to `position`."""
        assert client.wire is not None
        self._groups.setdefault(client.group, {})[client.wire] = client

    def discard(self, client: Client) -> bool:
        """Let go of a client; return whether it was here."""
        group = self._groups.get(client.group)
        if group is None or client.wire is None or client.wire not in group:
            return False
        del group[client.wire]
        if not group:
            del self._groups[client.group]
        return True

    def write(self, entries: Sequence[Entry]) -> list[Client]:
        """Write to each client what is for it; return those whose sockets did not take it."""
        full: list[Client] = []
        for (selection, stamped), clients in self._groups.items():
            payloads = [entry.payload(stamped) for entry in entries if entry.is_for(selection)]
            if payloads:
                self.delivered += len(payloads) * len(clients)
                frames = text_frames(payloads)
                full += [clients[wire] for wire in write_to_all(clients, frames, BEHIND_BYTES)]
        return full
