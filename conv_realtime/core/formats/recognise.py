"""Whose transcript a file is, and which conversation it states, from its name and first bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

from conv_realtime.core.format import HEAD_BYTES, Format, Head, Recognised
from conv_realtime.core.sanitize import MAX_NAME, storable

UNKNOWN = "not a transcript of a known assistant"


def recognise(
    formats: Sequence[Format], path: PurePath, head: Head
) -> tuple[Format, Recognised] | str | None:
    """Return what the file is, a reason why it is not read, or None where more is needed.

    The first of `formats` that can tell decides; one that is unsure is waited for, because a
    later one may take less for its own.
    """
    for form in formats:
        if not form.is_named(str(path)):
            continue
        claim = form.claim(path, head)
        if claim == "unsure":
            if len(head.data) >= HEAD_BYTES:
                continue
            return None
        if claim is not None:
            return form, _storable(claim)
    return UNKNOWN


def _storable(claim: Recognised) -> Recognised:
    """Return a claim whose names can be kept: they come from the file as they are."""
    session, agent = claim.session[:MAX_NAME], claim.agent and claim.agent[:MAX_NAME]
    return replace(claim, session=storable(session), agent=agent and storable(agent))
