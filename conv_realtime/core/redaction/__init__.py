"""Secrets in text: found by their forms, and replaced by what they were.

* `kinds`: the forms
* `doubt`: what only looks like one
* `linear`: expressions whose time grows with the text alone
* `redactor`: text in, text and findings out
"""

from __future__ import annotations

from conv_realtime.core.redaction.redactor import SHORTEST, Found, Redactor, default

__all__ = ["SHORTEST", "Found", "Redactor", "default"]
