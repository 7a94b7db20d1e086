"""What the environment may say: the variables of settings and of options."""

from __future__ import annotations

import click
from pydantic import AliasChoices

from conv_realtime import Settings
from conv_realtime.cli import main
from conv_realtime.cli.variables import known_variables


def command(name: str) -> click.Command:
    """Return a command of `conv-realtime`."""
    found = main.get_command(click.Context(main), name)
    assert found is not None, name
    return found


def parse(name: str, arguments: list[str]) -> None:
    """Fail unless a command takes these arguments."""
    command(name).make_context(name, list(arguments))


def variables_of(setting: str) -> list[str]:
    """Return the variables of a setting, the one that goes first before the others."""
    alias = Settings.model_fields[setting].validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices if choice != setting]
    return [f"CONV_REALTIME_{setting.upper()}"]


def variables() -> set[str]:
    """Return every variable that something of ours reads."""
    return set(known_variables(main))
