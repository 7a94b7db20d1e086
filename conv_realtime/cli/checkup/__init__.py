"""What `doctor` tries, one thing after another, and what it says of each.

* `machine`: the state directory, the transcripts, watching them
* `gateway`: how a Supabase project is asked
* `address`: the URL, the clock
* `project`: the key, the owner, the schema, the rights
* `channel`: joining Realtime, and hearing something come back
* `forecast`: what the transcripts would cost on Supabase's plans
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["ok", "failed", "warning", "skipped"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried.

    Attributes:
        name: of what was tried.
        state: `warning` is worth knowing and stops nothing, `skipped` was not tried.
        says: what was found, in one line without anything secret.
        remedy: what to do about it, None where there is nothing to do.
        facts: numbers behind it, for programs.
    """

    name: str
    state: State
    says: str
    remedy: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def ok(name: str, says: str, **facts: Any) -> Check:
    """Return a check that found everything as it should be."""
    return Check(name, "ok", says, facts=facts)


def failed(name: str, says: str, remedy: str, **facts: Any) -> Check:
    """Return a check that found what has to be put right."""
    return Check(name, "failed", says, remedy, facts)


def warning(name: str, says: str, remedy: str | None = None, **facts: Any) -> Check:
    """Return a check that found what is worth knowing."""
    return Check(name, "warning", says, remedy, facts)


def skipped(name: str, because: str) -> Check:
    """Return a check that makes no sense before something else is put right."""
    return Check(name, "skipped", f"not tried: {because}")
