"""Variables of the environment that other programs read, and what they would do to ours."""

from __future__ import annotations

import os

from conv_realtime.errors import ConfigError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def prepare_for_http() -> None:
    """Keep what stays on this machine from the proxies of the environment.

    A proxy leads elsewhere, and the local Supabase is not there.

    Raises:
        ConfigError: the proxies or certificates that are named cannot be used.
    """
    proxies = [name for name in os.environ if name.lower().endswith("_proxy")]
    if proxies:
        spared = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
        if spared.strip() != "*":
            os.environ["no_proxy"] = ",".join(filter(None, [spared, *_LOOPBACK]))
    named = [*proxies, *(name for name in _CERTIFICATES if name in os.environ)]
    if named:
        _try(named)


def _try(named: list[str]) -> None:
    import httpx

    try:
        httpx.Client().close()
    except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
        raise ConfigError(", ".join(named), f"cannot be used: {error}") from error


def leave_out_libpq() -> None:
    """Remove what libpq takes for all that a connection does not say: it is of other databases."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
