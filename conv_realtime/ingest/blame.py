"""What becomes of an exception that a format raises: its file is not read, and the others are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from conv_realtime.errors import ConvRealtimeError, SourceError
from conv_realtime.ingest.rows import RewrittenError

logger = logging.getLogger("conv_realtime.ingest.blame")


@contextmanager
def blaming(path: str) -> Iterator[None]:
    """Run a format's code; whatever it raises is an error of the file at `path`.

    Raises:
        SourceError: the format raised something that is not for us. It is named by its type
            alone, what it says may be of the conversation; the log has it at level debug.
    """
    try:
        yield
    except (ConvRealtimeError, RewrittenError):
        raise
    except Exception as error:
        logger.debug("the format of %s failed", path, exc_info=True)
        raise SourceError(path, f"its format raised {type(error).__name__}") from error
