"""What must not reach Postgres, or leave the machine: one step, for every value.

PostgreSQL refuses NUL in text and jsonb (22P05) and lone surrogates in jsonb; JSON has no NaN;
a value nested too deep fails the whole request (54001). Likely secrets are replaced by a
marker, because transcripts hold what was pasted into them and what tools printed.
"""

from __future__ import annotations

import math
import re
from typing import Any

MAX_DEPTH = 100
MAX_NAME = 100_000
"""Characters of a value that is a name or a path: the database refuses rows with much longer."""

_MAX_NUMBER = 1e300  # the database refuses larger ones: readers could not take them
_SURROGATE = re.compile("[\ud800-\udfff]")

_WORD = "[A-Za-z0-9_-]"
# Each kind, the literals that it begins with, and what follows. Looking for a literal first
# costs next to nothing; one alternation over all kinds would read 30 MB/s.
_KINDS: tuple[tuple[str, str, str], ...] = (
    ("anthropic key", "sk-ant-", _WORD + "{16,}"),
    ("openai key", "sk-", "(?:proj-|svcacct-|admin-|or-v1-)?" + _WORD + "{20,}"),
    ("stripe key", "sk_live_ sk_test_ rk_live_ rk_test_", "[A-Za-z0-9]{16,}"),
    ("github token", "ghp_ gho_ ghu_ ghs_ ghr_", "[A-Za-z0-9]{30,}"),
    ("github token", "github_pat_", "[A-Za-z0-9_]{30,}"),
    ("gitlab token", "glpat- gldt- glrt- glptt- glcbt-", _WORD + "{20,}"),
    ("slack token", "xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs-", "[A-Za-z0-9-]{10,}"),
    ("aws key id", "AKIA ASIA", "[A-Z0-9]{16}(?![A-Za-z0-9])"),
    ("google key", "AIza", _WORD + "{35}"),
    ("google key", "GOCSPX- ya29.", _WORD + "{20,}"),
    ("supabase key", "sbp_", "[a-f0-9]{40}"),
    ("supabase key", "sb_secret_", _WORD + "{20,}"),
    ("npm token", "npm_", "[A-Za-z0-9]{36}"),
    ("pypi token", "pypi-", _WORD + "{32,}"),
    ("hugging face token", "hf_", "[A-Za-z0-9]{30,}"),
    ("sendgrid key", "SG.", _WORD + r"{16,}\." + _WORD + "{16,}"),
    ("digitalocean token", "dop_v1_ doo_v1_", "[a-f0-9]{64}"),
    ("slack webhook", "hooks.slack.com/services/", r"[A-Z0-9]+/[A-Z0-9]+/[A-Za-z0-9]{16,}"),
    ("shopify token", "shpat_ shpss_", "[a-f0-9]{32}"),
    ("docker token", "dckr_pat_", _WORD + "{20,}"),
    ("vault token", "hvs.", _WORD + "{24,}"),
    ("webhook secret", "whsec_", "[A-Za-z0-9+/]{24,}"),
    ("groq key", "gsk_", "[A-Za-z0-9]{40,}"),
    ("jwt", "eyJ", _WORD + r"{8,}\.eyJ" + _WORD + r"{8,}\." + _WORD + "{8,}"),
)
# A secret begins where a word does ("task-force" holds no key), also behind an escaped line break
# or sign. Without that a long word of beginnings would be read again from each of them.
_BEGINNING = rf"(?:(?<!{_WORD})|(?<=\\[nrt])|(?<=\\u00[0-9A-Fa-f]{{2}})|(?<=%[0-9A-Fa-f]{{2}}))"
_SECRETS = tuple(
    (f"[redacted: {kind}]", literal, re.compile(_BEGINNING + re.escape(literal) + rest))
    for kind, literals, rest in _KINDS
    for literal in literals.split()
)

# Secrets without a form of their own, known by what stands before them; group 1 stays. A digit is
# wanted where words could stand, and "$NAME" or "<password>" are no secrets.
_VALUE = r"(?=[A-Za-z._~+/=-]{0,80}[0-9])(?=[0-9._~+/=-]{0,80}[A-Za-z])[A-Za-z0-9._~+/=-]"
_NAMED = tuple(
    (f"\\1[redacted: {kind}]", literal, re.compile(pattern))
    for kind, literal, pattern in (
        (
            "password",
            "://",
            r"(://([^\s/?#:@\"'`<>\\]{0,100}):)(?!\2@|[$*{<\[%])[^\s/?#@\"'`<>\\]{3,200}(?=@[A-Za-z0-9\[])",
        ),
        ("token", "earer ", rf"([Bb]earer ){_VALUE}{{20,}}"),
        ("password", "Basic ", r"(uthorization\\?[\"']?: ?\\?[\"']?Basic )[A-Za-z0-9+/]{8,}={0,2}"),
        (
            "aws secret",
            "ecret",
            r"(ecret_?[aA]ccess_?[kK]ey\W{1,6})[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])",
        ),
        *(
            ("secret", name, rf"({name}[\"']?){_VALUE}{{12,}}(?![A-Za-z0-9_(\[])")
            for name in ("API_KEY=", "SECRET_KEY=", "ACCESS_KEY=", "SECRET=", "TOKEN=", "PASSWORD=")
        ),
    )
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?!-----BEGIN )[\s\S]){0,20000}?"
    r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)"
)


def redact(text: str) -> str:
    """Return `text` with each likely secret replaced by `[redacted: what it was]`."""
    for marker, literal, pattern in _SECRETS:
        if literal in text:
            text = pattern.sub(marker, text)
    if "PRIVATE KEY" in text:
        text = _PRIVATE_KEY.sub("[redacted: private key]", text)
    for marker, literal, pattern in _NAMED:
        if literal in text:
            text = pattern.sub(marker, text)
    return text


def storable(text: str) -> str:
    """Return `text` without NUL, lone surrogates replaced by U+FFFD."""
    if "\x00" in text:
        text = text.replace("\x00", "")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text)
    return text


class Sanitizer:
    """Cleans values on their way out; `redacting=False` leaves secrets where they are."""

    __slots__ = ("_redacting",)

    def __init__(self, *, redacting: bool = True) -> None:
        self._redacting = redacting

    def text(self, text: str) -> str:
        """Return a string that PostgreSQL takes and that holds no likely secret."""
        text = storable(text)
        return redact(text) if self._redacting else text

    def name(self, text: str) -> str:
        """Return a name or path, cut to what a column of that kind takes."""
        return self.text(text[:MAX_NAME])

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return a JSON value, keys included, that jsonb takes; order is kept.

        What is nested deeper than `MAX_DEPTH` becomes a marker, NaN and numbers beyond 1e300 None.
        """
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, float):
            return value if math.isfinite(value) and abs(value) <= _MAX_NUMBER else None
        if isinstance(value, dict | list) and depth >= MAX_DEPTH:
            return "[nested too deep]"
        if isinstance(value, dict):
            return {self.text(key): self.value(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, depth + 1) for item in value]
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _MAX_NUMBER:
            return None
        return value
