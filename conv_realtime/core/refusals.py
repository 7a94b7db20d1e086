"""What a refused write means, by its code alone.

PostgREST answers some permanent errors with 500 and some that pass with 4xx, so statuses
mislead wherever there is a code. A code is PostgreSQL's SQLSTATE (five characters), PostgREST's
`PGRST…`, or, from whatever stands in front of them, the HTTP status.

A code never says which row it is about: one request is one transaction, and no error names its
place in the body.
"""

from __future__ import annotations

from enum import Enum

UNENCODABLE = "unencodable"
"""The code of a row that is no JSON: it never left this process."""


class Refusal(Enum):
    """What helps."""

    PASSES = "passes"
    """Nothing is wrong with the rows or the settings: the same request, later."""

    HEAVY = "heavy"
    """The request is too much at once: the same rows in smaller ones."""

    ROW = "row"
    """A row of it will never be taken as it is: the others without it."""

    PARENT = "parent"
    """What a row hangs under is not there: that first, then the row."""

    UNCLEAR = "unclear"
    """One row's fault or everybody's: whether others are taken tells."""

    HELP = "help"
    """Somebody has to put right a key, a right or the schema: nothing else."""


# By the first characters, the longest that fits decides.
_BY_PREFIX = {
    # PostgreSQL: connections, a transaction that lost, resources, an operator, the system.
    "08": Refusal.PASSES,
    "25": Refusal.PASSES,
    "26": Refusal.PASSES,  # a pooler lost a prepared statement
    "40": Refusal.PASSES,
    "53": Refusal.PASSES,
    "55": Refusal.PASSES,
    "57": Refusal.PASSES,
    "58": Refusal.PASSES,
    "XX": Refusal.PASSES,
    "25006": Refusal.HELP,  # read only: Supabase does so to a project whose disk is full
    "57014": Refusal.HEAVY,  # a statement's time is up
    "54001": Refusal.ROW,  # nested too deep
    "54": Refusal.ROW,  # a value too large for an index, and the like
    "21000": Refusal.ROW,  # one row twice in a request: each half may have one of them
    "22": Refusal.ROW,
    "22023": Refusal.HELP,  # the token names a role that the database does not have
    "23": Refusal.ROW,
    "23503": Refusal.PARENT,
    "42501": Refusal.PARENT,  # under row level security a missing parent shows so
    # Raised by a trigger or a check that the project's owner wrote.
    "P0": Refusal.UNCLEAR,
    "PT": Refusal.UNCLEAR,
    # PostgREST: no connection, no schema cache, a full pool; its own errors.
    "PGRST0": Refusal.PASSES,
    "PGRSTX": Refusal.PASSES,
}  # fmt: skip

_BY_NAME = {
    UNENCODABLE: Refusal.ROW,
    "ReadTimeout": Refusal.HEAVY,
    "WriteTimeout": Refusal.HEAVY,
}

_BY_STATUS = {
    "400": Refusal.UNCLEAR,
    "403": Refusal.UNCLEAR,  # a firewall in front that dislikes what a row says
    "406": Refusal.UNCLEAR,
    "408": Refusal.PASSES,
    "413": Refusal.HEAVY,
    "418": Refusal.UNCLEAR,
    "422": Refusal.UNCLEAR,
    "425": Refusal.PASSES,
    "429": Refusal.PASSES,
    "501": Refusal.HELP,
    "505": Refusal.HELP,
    "540": Refusal.HELP,  # Supabase: the project is paused
}


def judge(code: str) -> Refusal:
    """Return what a refusal with this code means; one that nobody knows wants help."""
    if len(code) == 3 and code.isdigit():
        return _BY_STATUS.get(code, Refusal.PASSES if code >= "500" else Refusal.HELP)
    if len(code) == 5 or code.startswith("PGRST"):
        known = (_BY_PREFIX.get(code[:length]) for length in (6, 5, 2))
        return next((refusal for refusal in known if refusal is not None), Refusal.HELP)
    return _BY_NAME.get(code, Refusal.HELP)


def passes(code: str) -> bool:
    """Return whether the same request may succeed later: nothing is wrong, or it took too long."""
    return judge(code) is Refusal.PASSES or code == "57014"
