"""The state directory, and the name that this machine has in it."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conv_realtime import shared_files
from conv_realtime.errors import ConfigError, unusable


@contextmanager
def using(state_dir: Path) -> Iterator[None]:
    """Tell what the system refuses in `state_dir` as what it is: a setting to change.

    Raises:
        ConfigError: the folder or a file in it cannot be made, read or written.
    """
    try:
        yield
    except OSError as error:
        raise unusable(state_dir, error) from error


def make_state_dir(state_dir: Path) -> None:
    """Make the state directory if need be: to be entered, not listed, by others.

    The local PostgreSQL may run below it as another user. Modes of what is there are kept.
    """
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o711)


def machine_id(state_dir: Path) -> str:
    """Return the name of this machine: kept in the state directory since the first run.

    The first run takes the operating system's machine id, else the host name, and remembers
    it, so that a renamed host keeps its conversations.

    Raises:
        ConfigError: it cannot be read or kept.
    """
    with using(state_dir):
        kept = state_dir / "machine"
        if known := _text_of(kept):
            return known
        machine = _os_machine_id() or platform.node() or "localhost"
        make_state_dir(state_dir)
        shared_files.write_closed(kept, machine + "\n")
    return machine


def _text_of(path: Path) -> str:
    """Return what a file holds, "" where there is none; one that is closed is not taken for none.

    Another name in its place would make every conversation another machine's.

    Raises:
        ConfigError: it is no text, as after a power cut.
    """
    try:  # bytes that are no text become what cannot be printed
        text = path.read_text(encoding="utf-8", errors="surrogateescape").strip()
    except FileNotFoundError:
        return ""
    if text.isprintable():
        return text
    advice = "restore it, or remove it: this machine is then named as at the first run"
    raise ConfigError("state_dir", f"{path} is damaged; {advice}")


def _os_machine_id() -> str | None:
    for place in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            if known := Path(place).read_text(encoding="ascii").strip():
                return known
        except (OSError, UnicodeDecodeError):
            continue
    return None
