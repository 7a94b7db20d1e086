"""The formats and places of this machine: what is installed, and where assistants write here."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from conv_realtime.core.format import Format, Machine
from conv_realtime.core.formats import BUILT_IN
from conv_realtime.errors import ConfigError

GROUP = "conv_realtime.formats"
"""The entry points by which other packages bring formats."""


def known_formats(own: Sequence[Format] = ()) -> tuple[Format, ...]:
    """Return the formats that claim files, in their order: `own`, installed ones, ours.

    Raises:
        ConfigError: an installed one cannot be loaded, or two have the same name.
    """
    more = (*own, *_installed())
    # One of ours may have two, for an assistant whose files became others.
    names = [form.source for form in more] + list({form.source for form in BUILT_IN})
    for name in names:
        if names.count(name) > 1:
            raise ConfigError("formats", f"more than one is named {name!r}")
    return (*more, *BUILT_IN)


def _installed() -> list[Format]:
    found: list[Format] = []
    for entry in entry_points(group=GROUP):
        try:
            form = entry.load()()
        except Exception as error:  # whatever a foreign package raises
            raise ConfigError(GROUP, f"{entry.value} cannot be loaded: {error}") from error
        if not isinstance(form, Format):
            raise ConfigError(GROUP, f"{entry.value} is no conv_realtime.Format")
        found.append(form)
    return found


def this_machine() -> Machine:
    """Return where assistants keep their files on this machine."""
    return Machine(Path.home(), os.environ, sys.platform)


def usual_paths(formats: Sequence[Format]) -> list[Path]:
    """Return the usual places of the assistants that are read: those that exist."""
    return [place for place in all_places(formats) if os.path.exists(place)]


def all_places(formats: Sequence[Format]) -> list[Path]:
    """Return where the assistants that are read usually write on this machine, each place once."""
    return list(dict.fromkeys(place for form in formats for place in places_of(form)))


def places_of(form: Format) -> list[Path]:
    """Return where one assistant usually writes on this machine."""
    return [Path(place) for place in form.places(this_machine())]
