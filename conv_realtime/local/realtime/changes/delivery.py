"""Sends changes to the channels that are to have them, each encoded once for all that get it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

from conv_realtime.local.realtime.changes.bindings import Binding
from conv_realtime.local.realtime.changes.message import RowChange, payload
from conv_realtime.local.realtime.changes.outcome import Outcome
from conv_realtime.local.realtime.changes.subscriptions import Interest, Subscription
from conv_realtime.local.realtime.channels import Subscriber
from conv_realtime.local.realtime.frames import TextFanOut, Wire

EVENT = "postgres_changes"
PACE_FRAMES = 200
PACE_CHARACTERS = 256 * 1024

Select = tuple[str, ...] | None
Pace = Callable[[Sequence[Subscription]], Awaitable[None]]


async def deliver(
    role: str,
    changes: Sequence[RowChange],
    interests: Mapping[int, Sequence[Interest]],
    outcomes: Mapping[int, Outcome],
    pace: Pace,
) -> None:
    """Sends changes in their order.

    Args:
        role: of everybody who is interested.
        changes: of any tables.
        interests: by the table's oid.
        outcomes: what may be sent, by the table's oid.
        pace: awaited with all who are interested after so many frames or characters.
    """
    audience = list(dict.fromkeys(one for some in interests.values() for one, _ in some))
    frames = characters = 0
    for change in changes:
        oid = change.table.relation.oid
        if oid not in interests:
            continue
        sent = _send(role, change, interests[oid], outcomes[oid])
        frames += sent[0]
        characters += sent[1]
        if frames >= PACE_FRAMES or characters >= PACE_CHARACTERS:
            frames = characters = 0
            await pace(audience)


def _send(
    role: str, change: RowChange, interested: Sequence[Interest], outcome: Outcome
) -> tuple[int, int]:
    """Sends one change; gives how many frames that took, and how many characters for each."""
    made: dict[tuple[str, Select, tuple[int, ...], bool], tuple[TextFanOut, Sequence[float]]] = {}
    frames = characters = 0
    for subscription, bindings in interested:
        if subscription.stay.ended:
            continue
        for select, ids in _choices(role, change, bindings, outcome):
            channel = subscription.channel
            key = (channel.topic, select, ids, subscription.is_legacy)
            if key not in made:
                message = _message(role, change, *key)
                characters += len(message.body)
                made[key] = message, channel.subscriber.delays(channel.name)
            message, delays = made[key]
            wire = message.wire(channel.subscriber.version)
            if wire is not None:
                for delay in delays:
                    _push(channel.subscriber, wire, delay)
                frames += 1
    return frames, characters


def _push(subscriber: Subscriber, wire: Wire, delay: float) -> None:
    if delay > 0:
        asyncio.get_running_loop().call_later(delay, subscriber.push, wire)
    else:
        subscriber.push(wire)


def _choices(
    role: str, change: RowChange, bindings: Sequence[Binding], outcome: Outcome
) -> Iterator[tuple[Select, tuple[int, ...]]]:
    """Yields the ids of the bindings that a change is for, a frame for each choice of columns."""
    ids: dict[Select, list[int]] = {}
    for binding in bindings:
        if outcome.admits(change, binding, role):
            ids.setdefault(binding.select, []).append(binding.id)
    for select in sorted(ids, key=lambda select: ",".join(select or ())):
        yield select, tuple(ids[select])


def _message(
    role: str,
    change: RowChange,
    topic: str,
    select: Select,
    ids: tuple[int, ...],
    is_legacy: bool,
) -> TextFanOut:
    data = change.data(role, select)
    if is_legacy:
        return TextFanOut(topic, change.kind, data.encode())
    return TextFanOut(topic, EVENT, payload(data, ids))
