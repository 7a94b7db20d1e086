"""What else is taken for a secret where it is asked for: it may be none.

Values of what is named like a secret, and words that look drawn by lot. Both cost time, and a
look at what they took.
"""

from __future__ import annotations

from conv_realtime.core.redaction import doubt
from conv_realtime.core.redaction.kinds import Kind

_NAMES = (
    "(?i:pass(?:word|wd|phrase|code)?|pwd|secret|token|credential|api[_-]?key|access[_-]?key"
    "|auth[_-]?key|private[_-]?key|signing[_-]?key|encryption[_-]?key|client[_-]?secret)s?"
)
# Behind a name: a quote of JSON, perhaps escaped; a sign; another quote.
_SIGN = r"""\\?["']?\s{0,3}(?::=|=>|[:=])\s{0,3}\\?"""
_LETTERS = "[A-Za-z0-9+/_-]"

STRICT: tuple[Kind, ...] = (
    Kind(
        "secret",
        f"{_NAMES}{_SIGN}[\"'`]",
        rf"""{_NAMES}{_SIGN}["'`]([^\s"'`\\]{{6,}})""",
        doubt.quoted,
    ),
    Kind(
        "secret",
        rf"""{_NAMES}{_SIGN}[^\s"'`\\]{{4}}""",
        rf"""{_NAMES}{_SIGN}([^\s"'`\\,;(){{}}\[\]<>|&]{{6,}})(?:[\s"'`\\,;){{}}\]<>|&]|$)""",
        doubt.assigned,
    ),
    Kind(
        "discord-token",
        r"[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.",
        r"\b([MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,})",
    ),
    Kind("azure-devops-token", "AZDO", r"\b([A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4})\b"),
    Kind("mailchimp-key", "[0-9a-f]{4}-us[0-9]", r"\b([0-9a-f]{32}-us[0-9]{1,2})\b"),
    Kind(
        "curl-password",
        r"curl .{0,200}?(?:-u|--user)[ =]",
        r"""curl .{0,200}?(?:-u|--user)[ =]["']?(?P<user>[^\s:"']{1,100}):([^\s"']{3,})""",
        doubt.password,
    ),
    Kind(
        "random",
        f"{_LETTERS}{{24}}",
        rf"(?:^|[^A-Za-z0-9+/_-])({_LETTERS}{{24,}}={{0,2}})",
        doubt.not_random,
    ),
)
