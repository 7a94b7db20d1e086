"""Where a local Supabase listens: on loopback, and elsewhere only for those who insist."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

from conv_realtime.core.addresses import is_loopback
from conv_realtime.errors import ConfigError

_BACKLOG = 2048


def check_host(host: str, *, allow_remote: bool) -> None:
    """Makes sure that nobody opens a local project to a network by a slip.

    Raises:
        ConfigError: `host` is not loopback, and that was not allowed.
    """
    if not allow_remote and not is_loopback(host):
        raise ConfigError(
            "--host",
            f"{host} is not loopback: everybody who can reach it could use the project's keys "
            "over plain HTTP; if that is meant, say --allow-remote (allow_remote=True)",
        )


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Gives a socket that listens on `host` and `port`; 0 picks a free port.

    Raises:
        ConfigError: the port is taken or not ours to take, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay off only where the protocol is named: 40 ms an answer otherwise.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                said = f"{port} is in use; choose another, or 0"
            else:
                said = f"port {port} on {host}: {error.strerror}; choose another"
            raise ConfigError("--local-port", said) from None
        listener.setblocking(False)
        yield listener
