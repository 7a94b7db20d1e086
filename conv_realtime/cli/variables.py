"""Variables that nobody reads: one that is misspelt would set nothing, and say nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

import click
from pydantic import AliasChoices

from conv_realtime.settings import Settings

_OTHERS = frozenset({"CONV_REALTIME_PASSWORD", "CONV_REALTIME_PG_BIN"})
_OF_TESTS = "CONV_REALTIME_TEST_"


def known_variables(commands: click.Group) -> frozenset[str]:
    """Return every variable that a setting, an option or a part of ours reads."""
    found = set(_OTHERS)
    context = click.Context(commands)
    for name in commands.list_commands(context):
        command = commands.get_command(context, name)
        found |= {str(one.envvar) for one in command.params if one.envvar} if command else set()
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        choices = alias.choices if isinstance(alias, AliasChoices) else ()
        named = {str(choice) for choice in choices if choice != name}
        found |= named or {f"CONV_REALTIME_{name.upper()}"}
    return frozenset(found)


def told_of_unknown(names: Iterable[str], known: frozenset[str]) -> Iterator[str]:
    """Yield a line for each of our variables in `names` that nothing reads."""
    for name in sorted(names):
        ours = name.startswith("CONV_REALTIME_") and not name.startswith(_OF_TESTS)
        if ours and name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.8)
            meant = f"; did you mean {near[0]}?" if near else ""
            yield f"{name} is set, and is no setting{meant}"
