"""Who may read and write a private channel: row level security on ``realtime.messages``.

As Supabase does it, nothing is evaluated but the project's own policies: in one transaction that
is always rolled back, a probe row is inserted, the holder's role and claims are put on, and then
the row is looked for (SELECT policies: may receive) and another is inserted (INSERT policies:
may send). A rolled back row is never decoded, so probes are never broadcast.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from conv_realtime.local.realtime.connections import Connections, asking
from conv_realtime.local.realtime.tokens import Token

_ASK = "select may_read, may_write from local_supabase.channel_access(%s, %s, %s, %s)"


@dataclass(frozen=True, slots=True)
class Access:
    """What a token may do on a private channel."""

    read: bool
    write: bool


class AccessChecker:
    """Asks the policies.

    Args:
        connections: of a role that may write ``realtime.messages`` past its policies and may
            become any role that a token names.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def check(self, name: str, token: Token) -> Access:
        """Returns what the token may do on the private channel; a faulty policy allows nothing.

        Args:
            name: the topic without its ``realtime:`` prefix.
            token: of the one who asks.

        Raises:
            Away: the database cannot be asked, gave up, or has no partition for today.
        """
        if "\0" in name:
            return Access(read=False, write=False)  # no text of PostgreSQL's has one
        subject = token.claims.get("sub")
        values = (
            name,
            token.role,
            json.dumps(dict(token.claims)),
            subject if isinstance(subject, str) else "",
        )
        async with asking(self._connections) as connection:
            async with connection.transaction(force_rollback=True):
                row = await (await connection.execute(_ASK, values)).fetchone()
        read, write = row or (False, False)
        return Access(read, write)
