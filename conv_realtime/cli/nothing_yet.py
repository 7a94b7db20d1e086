"""What is said where there is no conversation yet: what is watched, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from conv_realtime.cli.options import printable

OF_OTHERS = "Nothing yet. A conversation shows up here when a machine that runs up has written it."
"""On the page of who watches nothing."""


def in_terminal(paths: Sequence[Path] | None) -> str:
    """Return a line for who has started `up`, on the usual places without `paths`."""
    if paths:
        where = ", ".join(map(str, paths))
        return printable(
            f"no transcript yet in {where}: what is written there shows up at once; "
            "conv-realtime sources PATH says what is skipped and why"
        )
    from conv_realtime.edges.formats import known_formats, places_of

    count = len({form.title for form in known_formats() if places_of(form)})
    return (
        f"no transcript yet in the usual places of {count} assistants: use one of them, name a "
        "folder (conv-realtime up PATH), or see conv-realtime demo --port 0 --local-port 0; "
        "conv-realtime sources lists the places"
    )


def on_page(paths: Sequence[Path] | None) -> str:
    """Return the same for the page, which says no paths: whoever reaches the port can read it."""
    watched = "the paths that it was given" if paths else "the usual places of assistants"
    return (
        f"Nothing yet. Watched are {watched}: a conversation shows up here when its first line is"
        " written. “conv-realtime sources” says where that is and what is skipped; “conv-realtime"
        " demo --port 0 --local-port 0” shows a conversation that types itself."
    )
