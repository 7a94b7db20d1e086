"""Tokens that expire before their time."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from conv_realtime.local.keys import TokenError, Verify
from conv_realtime.testing.faults.fault import Fault, Registry

_AGO_SECONDS = 60
"""Beyond what the Data API forgives a clock."""


class Expiry(Fault):
    """Some tokens have expired."""

    def __init__(self, tokens: Collection[str]) -> None:
        super().__init__()
        self._tokens = frozenset(tokens)
        self._at = int(time.time()) - _AGO_SECONDS

    def judge(self, token: str, claims: dict[str, Any]) -> None:
        """Refuses a token of those.

        Raises:
            TokenError: `PGRST303`, as if its time were over.
        """
        if token in self._tokens:
            self.strike()
            raise TokenError("PGRST303", "JWT expired", claims=claims | {"exp": self._at})


class TokenBook:
    """Knows every token that was issued or shown.

    Args:
        faults: the expiries in force.
    """

    def __init__(self, faults: Registry[Expiry]) -> None:
        self._faults = faults
        self._known: set[str] = set()

    def issued(self, token: str) -> str:
        """Remembers a token; gives it back."""
        self._known.add(token)
        return token

    def known(self, *, besides: Collection[str]) -> frozenset[str]:
        """Gives all tokens so far but some."""
        return frozenset(self._known).difference(besides)

    def judging(self, verify: Verify) -> Verify:
        """Makes a judge that knows of expiries out of one that does not."""

        def judge(token: str) -> dict[str, Any]:
            claims = verify(token)
            self._known.add(token)
            for expiry in self._faults.active:
                expiry.judge(token, claims)
            return claims

        return judge
