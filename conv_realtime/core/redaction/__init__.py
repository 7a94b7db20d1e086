"""Secrets in text: found by their forms, and replaced by what they were.

* `kinds`: the forms
* `strict`: what else may be one
* `doubt`: what only looks like one
* `linear`: expressions whose time grows with the text alone
* `replacing`: text in, text and findings out
"""

from __future__ import annotations

from conv_realtime.core.redaction.linear import PatternError
from conv_realtime.core.redaction.replacing import Found, Level, Redactor, redactor

__all__ = ["Found", "Level", "PatternError", "Redactor", "redactor"]
