"""What a client wants to hear: decided per event from a handful of ids, never from its text.

The rules of `subscribe` and `unsubscribe`: the first replaces everything, an absent key is
unrestricted, keys are ANDed; the second takes away. The owner is no wish but a limit, and no
request changes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from uuid import UUID

from conv_realtime.events import (
    DATA_TYPES,
    DEFAULT_TYPES,
    Filter,
    SubscribeRequest,
    SubscriptionData,
    UnsubscribeRequest,
)

MAX_EXCLUDED = 10_000
"""Ids that one client may exclude; it could otherwise fill our memory a frame at a time."""

_NONE: frozenset[UUID] = frozenset()

DELETIONS = frozenset({"conversation_deleted", "message_deleted"})
"""Events that say what is gone, and nothing of what it was."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What an event is about; None where it is about no such thing."""

    type: str
    owner: UUID | None = None
    conversation: UUID | None = None
    project: UUID | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """A client's filter. Hashable: clients with equal selections share what is encoded."""

    types: frozenset[str] = DEFAULT_TYPES
    conversations: frozenset[UUID] | None = None
    projects: frozenset[UUID] | None = None
    owner: UUID | None = None
    without_conversations: frozenset[UUID] = _NONE
    without_projects: frozenset[UUID] = _NONE

    def wants(self, subject: Subject) -> bool:
        """Return whether an event about `subject` is for this client.

        A `file_update` is about no row: it reaches who asks for the type, whatever ids they
        list, and nobody who is limited to another owner. What is gone may have lost its project
        with the rest of it: then whoever follows projects hears of it, and knows the id or not.
        """
        if subject.type not in self.types:
            return False
        if self.owner is not None and subject.owner != self.owner:
            return False
        if subject.type == "file_update":
            return True
        if self.conversations is not None and subject.conversation not in self.conversations:
            return False
        if self.projects is not None and subject.project not in self.projects:
            return subject.project is None and subject.type in DELETIONS
        return (
            subject.conversation not in self.without_conversations
            and subject.project not in self.without_projects
        )

    def subscribe(self, request: SubscribeRequest) -> Selection:
        """Return the selection that `request` puts in this one's place.

        Raises:
            ValueError: `request` names a type that does not exist.
        """
        return Selection(
            types=DEFAULT_TYPES if request.types is None else _known(request.types),
            conversations=_ids(request.conversations),
            projects=_ids(request.projects),
            owner=self.owner,
        )

    def unsubscribe(self, request: UnsubscribeRequest) -> Selection:
        """Return this selection without what `request` names; naming nothing ends all events.

        Raises:
            ValueError: `request` names a type that does not exist, or more than `MAX_EXCLUDED`
                ids would be excluded.
        """
        if request.types is None and request.conversations is None and request.projects is None:
            return replace(self, types=frozenset())
        conversations = frozenset(request.conversations or ())
        projects = frozenset(request.projects or ())
        without_conversations = self.without_conversations | conversations
        without_projects = self.without_projects | projects
        if len(without_conversations) + len(without_projects) > MAX_EXCLUDED:
            raise ValueError(f"at most {MAX_EXCLUDED} ids can be excluded; use subscribe")
        return replace(
            self,
            types=self.types - _known(request.types or ()),
            conversations=_less(self.conversations, conversations),
            projects=_less(self.projects, projects),
            without_conversations=without_conversations,
            without_projects=without_projects,
        )

    def describe(self) -> SubscriptionData:
        """Return the selection as `subscribed` and `connection_established` show it."""
        return SubscriptionData(
            subscriptions=[name for name in DATA_TYPES if name in self.types],
            filter=Filter(
                conversations=_listed(self.conversations), projects=_listed(self.projects)
            ),
        )


def select_types(names: Iterable[str] | None, owner: UUID | None) -> Selection:
    """Return a new client's selection: the types `names`, or the default ones.

    Raises:
        ValueError: a name is no event type.
    """
    return Selection(types=DEFAULT_TYPES if names is None else _known(names), owner=owner)


def _known(names: Iterable[str]) -> frozenset[str]:
    for name in names:
        if name not in DATA_TYPES:
            raise ValueError(f"no such type: {name}")
    return frozenset(names)


def _ids(listed: list[UUID] | None) -> frozenset[UUID] | None:
    return None if listed is None else frozenset(listed)


def _less(listed: frozenset[UUID] | None, taken: frozenset[UUID]) -> frozenset[UUID] | None:
    return None if listed is None else listed - taken


def _listed(ids: frozenset[UUID] | None) -> list[UUID] | None:
    return None if ids is None else sorted(ids)
