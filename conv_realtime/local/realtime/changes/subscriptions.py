"""Who has asked for which tables, found by table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from conv_realtime.local.realtime.changes.bindings import Binding
from conv_realtime.local.realtime.changes.sight import User
from conv_realtime.local.realtime.channels import Channel
from conv_realtime.local.realtime.tokens import Token


@dataclass(frozen=True, slots=True)
class GroupKey:
    """Who is asked for together.

    Attributes:
        user: the role and claims that all of them have.
        alone: the one channel of a group of its own. Whoever chooses a pattern to match chooses
            how long that takes, so nobody else must wait for it.
    """

    user: User
    alone: Channel | None = None


@dataclass(eq=False, slots=True)
class Stay:
    """A channel's time on the list, under whatever token; after its end nothing is sent to it."""

    ended: bool = False


@dataclass(eq=False, slots=True)
class Subscription:
    """The bindings of a channel under one token.

    Attributes:
        channel: who hears of it.
        bindings: what it has asked for, the last first: so real servers order their ids.
        key: the group in which it is asked for.
        is_legacy: whether it joined without ``config``, and hears the old form of events.
        stay: what it shares with those of the channel's earlier tokens. What was on its way when
            a new one came is still sent, as the earlier one allows.
    """

    channel: Channel
    bindings: tuple[Binding, ...]
    key: GroupKey
    is_legacy: bool
    stay: Stay


Interest = tuple[Subscription, tuple[Binding, ...]]


def user_of(token: Token) -> User:
    """Gives whose rights a token stands for."""
    return User(token.role, json.dumps(dict(token.claims), sort_keys=True))


def subscription(
    channel: Channel, bindings: Iterable[Binding], stay: Stay, *, is_legacy: bool
) -> Subscription:
    """Makes the subscription of a channel under its present token."""
    wanted = tuple(bindings)
    patterns = any(one.is_pattern for binding in wanted for one in binding.filters)
    key = GroupKey(user_of(channel.token), channel if patterns else None)
    return Subscription(channel, wanted, key, is_legacy, stay)


class Subscriptions:
    """All live subscriptions."""

    def __init__(self) -> None:
        self._all: dict[Subscription, None] = {}
        self._found: dict[tuple[str, str], Mapping[GroupKey, list[Interest]]] = {}

    def __iter__(self) -> Iterator[Subscription]:
        return iter(list(self._all))

    def __len__(self) -> int:
        return len(self._all)

    @property
    def roles(self) -> frozenset[str]:
        """The roles that any of them has."""
        return frozenset(one.key.user.role for one in self._all)

    def add(self, one: Subscription) -> None:
        """Lets a subscription hear of every change from now on."""
        self._all[one] = None
        self._found.clear()

    def discard(self, one: Subscription) -> None:
        """Takes a subscription off the list: it hears of nothing that is read from now on."""
        self._all.pop(one, None)
        self._found.clear()

    def interested(self, schema: str, table: str) -> Mapping[GroupKey, list[Interest]]:
        """Gives who has asked for a table, by group, with the bindings that are about it."""
        found = self._found.get((schema, table))
        if found is None:
            found = self._found[schema, table] = self._search(schema, table)
        return found

    def _search(self, schema: str, table: str) -> Mapping[GroupKey, list[Interest]]:
        found: dict[GroupKey, list[Interest]] = {}
        for one in self._all:
            bindings = tuple(binding for binding in one.bindings if binding.wants(schema, table))
            if bindings:
                found.setdefault(one.key, []).append((one, bindings))
        return found
