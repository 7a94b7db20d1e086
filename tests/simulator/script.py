"""From a seed to a day: a list of actions, each of which can be left out."""

from __future__ import annotations

from random import Random
from typing import Any

Action = tuple[Any, ...]

NAMES = ("a", "b", "c", "a>1", "b>1")
STEPS = (25, 45)
STEPS_WITH_KILLS = (15, 25)

STORE_FAULTS = (
    "503",
    "502 html",
    "504",
    "429",
    "portal",
    "delay",
    "hang",
    "answer lost",
    "cut answer",
    "refused connection",
    "offline",
)
FEED_FAULTS = (
    "lose",
    "lose some",
    "double",
    "late",
    "close channels",
    "drop sockets",
    "refuse joins",
    "half open",
    "mute",
    "silence",
)
CLIENTS = 4


def script(seed: int, *, kill: bool = False) -> list[Action]:
    """Return the actions of a day; a day of kills is shorter, for a process takes a second."""
    chance = Random(seed)
    some = ((0.25, _grow), (0.2, _rewrite), (0.1, _place), (0.15, _process), (0.15, _fault))
    actions: list[Action] = [("append", chance.choice(NAMES), _kinds(chance))]
    for _ in range(chance.randint(*(STEPS_WITH_KILLS if kill else STEPS))):
        makers = [maker for _, maker in (*some, (0.15, _client))]
        weights = [weight for weight, _ in (*some, (0.15, _client))]
        actions.append(chance.choices(makers, weights)[0](chance))
        if chance.random() < 0.5:
            actions.append(("pause", round(chance.uniform(0, 0.08), 3)))
        if chance.random() < 0.06:
            actions.append(("rest",))
    return actions


def _kinds(chance: Random) -> list[int]:
    return [chance.choice((0, 1, 1, 2, 2, 3, 3, 4, 5, 6)) for _ in range(chance.randint(1, 4))]


def _grow(chance: Random) -> Action:
    name = chance.choice(NAMES)
    kind = chance.choice((0, 1, 2, 3, 4))
    return chance.choices(
        (
            ("append", name, _kinds(chance)),
            ("begin line", name, kind, round(chance.random(), 2)),
            ("leave line", name),
            ("append unended", name, kind),
            ("replace grown", name, _kinds(chance)),
        ),
        (6, 2, 1, 1, 1),
    )[0]


def _rewrite(chance: Random) -> Action:
    name, keep, in_place = chance.choice(NAMES), chance.randint(1, 6), chance.random() < 0.5
    return chance.choices(
        (
            ("cut", name, keep, in_place),
            ("rewind", name, keep, _kinds(chance), in_place),
            ("edit", name, chance.randint(0, 9)),
            ("bring back", name, chance.randint(0, 9), in_place),
            ("replace unrelated", name, _kinds(chance), in_place),
            ("rotate", name, _kinds(chance)),
        ),
        (4, 4, 2, 3, 1, 1),
    )[0]


def _place(chance: Random) -> Action:
    name = chance.choice(NAMES)
    what = ("vanish", "empty", "come back", "move", "copy", "link", "drop copies")
    return chance.choices(what, (2, 2, 2, 3, 2, 1, 3))[0], name


def _process(chance: Random) -> Action:
    place = chance.choices(("bridge", "relay"), (3, 1))[0]
    return chance.choices(
        (
            ("crash", place),
            ("stop", place),
            ("start", place),
            ("restart", place),
            ("crash while writing", chance.choice(("messages", "conversations", "*"))),
            ("lose state",),
            ("spoil state", chance.random()),
            ("keep state",),
            ("older state",),
        ),
        (5, 2, 6, 3, 4, 2, 1, 2, 2),
    )[0]


def _fault(chance: Random) -> Action:
    where = chance.choice(("messages", "conversations", "rpc/changes_since", "*"))
    times = chance.randint(1, 4)
    return chance.choices(
        (
            ("store", chance.choice(STORE_FAULTS), where, times),
            ("feed", chance.choice(FEED_FAULTS), times),
            ("mend",),
            ("refuse", chance.choice(NAMES)),
            ("allow",),
            ("postgres", chance.random() < 0.5),
        ),
        (6, 5, 2, 2, 2, 0.4),
    )[0]


def _client(chance: Random) -> Action:
    number = chance.randrange(CLIENTS)
    return chance.choices(
        (
            ("cut clients", chance.choice(("bridge", "relay"))),
            ("leave", number),
            ("return", number),
            ("join", chance.choice(("bridge", "relay")), chance.choice(("python", "raw"))),
            ("gap", chance.choice(("bridge", "relay"))),
        ),
        (4, 2, 2, 2, 1),
    )[0]
