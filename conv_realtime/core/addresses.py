"""Addresses of servers as text: which of them only this machine reaches, and by which name."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Return whether only processes of this machine reach `host`, a name or an address."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # A server on all addresses of both kinds knows who comes by IPv4 as such.
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def reached_at(host: str, port: int) -> str:
    """Return `host:port` for a URL; a server on all addresses is reached by loopback."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
