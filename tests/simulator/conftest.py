"""What a day leaves open is collected with it."""

from __future__ import annotations

import gc
import warnings


def pytest_runtest_logfinish() -> None:
    """Collect it here, and not in a later test, which would fail for it.

    Before, the records of what was logged still hold some of it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
