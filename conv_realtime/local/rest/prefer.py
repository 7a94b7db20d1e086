"""What a request's headers ask for: `Prefer`, `Range` and `Accept`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from conv_realtime.local.rest.errors import ApiError

_VALUES = {
    "resolution": ("merge-duplicates", "ignore-duplicates"),
    "missing": ("default", "null"),
    "return": ("representation", "minimal", "headers-only"),
    "count": ("exact", "planned", "estimated"),
    "handling": ("strict", "lenient"),
    "tx": ("commit", "rollback"),
}
_FREE = ("timezone", "max-affected")

OBJECT = "application/vnd.pgrst.object+json"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Preferences:
    """The accepted preferences; an absent one is None. `count` of any kind is counted exactly."""

    resolution: str | None = None
    missing: str | None = None
    returning: str | None = None
    count: str | None = None
    handling: str | None = None
    timezone: str | None = None
    max_affected: int | None = None


def parse_prefer(headers: Iterable[str]) -> Preferences:
    """Reads the `Prefer` headers; of a repeated preference the first counts.

    Raises:
        ApiError: `PGRST122`, something unknown under `handling=strict`.
    """
    found: dict[str, str] = {}
    unknown: list[str] = []
    for part in (part.strip() for header in headers for part in header.split(",")):
        name, _, value = part.partition("=")
        if value in _VALUES.get(name, ()) or (name in _FREE and value):
            found.setdefault(name, value)
        elif part:
            unknown.append(part)
    if unknown and found.get("handling") == "strict":
        raise ApiError(
            400,
            "PGRST122",
            "Invalid preferences given with handling=strict",
            details=f"Invalid preferences: {', '.join(unknown)}",
        )
    limit = found.get("max-affected", "")
    return Preferences(
        resolution=found.get("resolution"),
        missing=found.get("missing"),
        returning=found.get("return"),
        count=found.get("count"),
        handling=found.get("handling"),
        timezone=found.get("timezone"),
        max_affected=int(limit) if limit.isdigit() else None,
    )


def applied(preferences: Preferences, *names: str) -> str | None:
    """Gives the `Preference-Applied` header that tells the named preferences, None for none."""
    values = {
        "resolution": preferences.resolution,
        "missing": preferences.missing,
        "return": preferences.returning,
        "count": preferences.count,
        "handling": preferences.handling,
        "timezone": preferences.timezone,
        "max-affected": preferences.max_affected,
    }
    told = [f"{name}={value}" for name, value in values.items() if name in names and value]
    return ", ".join(told) or None


def parse_range(header: str | None) -> tuple[int, int | None]:
    """Reads `Range: 0-24`; gives offset and row count (None: all). Nonsense is ignored."""
    matched = re.fullmatch(r"(?:items=)?(\d+)-(\d*)", header or "")
    if matched is None:
        return 0, None
    first = int(matched[1])
    if not matched[2]:
        return first, None
    return first, max(int(matched[2]) - first + 1, 0)


def wants_object(accept: str | None) -> bool:
    """Says whether the client wants one row as an object rather than an array.

    Raises:
        ApiError: `PGRST107`, it accepts nothing that can be given.
    """
    types = [part.split(";")[0].strip() for part in (accept or "*/*").split(",")]
    for kind in types:
        if kind == OBJECT:
            return True
        if kind in (JSON, "*/*", "application/*", "application/vnd.pgrst.array+json", ""):
            return False
    raise ApiError(406, "PGRST107", f"None of these media types are available: {', '.join(types)}")
