"""What a Prometheus server reads: counts, and how long things take.

Most is asked for when somebody reads it, from counts that are kept anyway. Only what has to be
seen as it happens is pushed here, and where metrics are off nothing is: there is no `Metrics` then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from conv_realtime.errors import ConfigError
from conv_realtime.settings import Settings

if TYPE_CHECKING:
    from prometheus_client.core import Metric

Readings = Callable[[], Mapping[str, float | Mapping[str, float]]]
"""Counts by name, some of them by reason."""

_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)
_COUNTERS = {
    "rows_upserted": "Rows that the database says were written.",
    "store_retries": "Requests that are sent to the database again.",
    "rows_refused": "Rows that the database refused for good.",
    "frames_delivered": "Frames written to clients of /ws.",
    "resyncs": "Clients of /ws that were told of a gap, and so to fetch again.",
    "clients_evicted": "Clients of /ws that were cut because they did not read or answer.",
}
_GAUGES = {
    "clients": "Clients of /ws.",
    "feed_live": "1 where the feed is live, 0 where it polls, connects or is down.",
    "files": "Transcripts that are followed.",
    "dead_letters": "Rows that the database refused, and that nobody gave up on.",
    "queue": "Records that the database has not acknowledged.",
    "lag_seconds": "For how long something has been waiting to be sent.",
}


def metrics_of(settings: Settings) -> Metrics | None:
    """Return where to count, None where metrics are off.

    Raises:
        ConfigError: the extra `metrics` is missing.
    """
    if settings.metrics_path is None:
        return None
    try:
        return Metrics(settings.live_window)
    except ModuleNotFoundError as error:
        raise ConfigError(
            "metrics_path", "metrics need: pip install 'conv_realtime[metrics]'"
        ) from error


class Metrics:
    """A registry of its own: several bridges in a process do not mix.

    Args:
        live_window: seconds beyond which something is history, and how late it is says nothing.
    """

    def __init__(self, live_window: float) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self._live_window = live_window
        self._sources: list[Readings] = []
        self._registry = registry = CollectorRegistry(auto_describe=False)
        self._lines = Counter(
            "conv_realtime_lines_read", "Lines of transcripts that were read.", registry=registry
        )
        self._skipped = Counter(
            "conv_realtime_lines_skipped", "Lines that made no record.", ["reason"],
            registry=registry,
        )  # fmt: skip
        self._redacted = Counter(
            "conv_realtime_secrets_redacted", "Secrets replaced in rows.", ["kind"],
            registry=registry,
        )  # fmt: skip
        self._stored = Histogram(
            "conv_realtime_stored_seconds", "From a record's time until the database has it.",
            registry=registry, buckets=_BUCKETS,
        )  # fmt: skip
        self._told = Histogram(
            "conv_realtime_told_seconds", "From a message's time until clients are written it.",
            registry=registry, buckets=_BUCKETS,
        )  # fmt: skip
        registry.register(self)

    def ask(self, source: Readings) -> None:
        """Ask `source` for its counts whenever somebody reads."""
        self._sources.append(source)

    # A `ports.Meter` ------------------------------------------------------------------------

    def read(self, lines: int, skipped: Sequence[str]) -> None:
        """Count lines that were read, and why some of them made no record."""
        self._lines.inc(lines)
        for reason in skipped:
            self._skipped.labels(reason).inc()

    def stored(self, newest: datetime | None, redacted: Mapping[str, int]) -> None:
        """Note that the database has a batch, by its newest record, and what was left out."""
        self._observe(self._stored.observe, newest)
        for kind, count in redacted.items():
            self._redacted.labels(kind).inc(count)

    def told(self, created_at: datetime | None) -> None:
        """Note that a message was written to clients."""
        self._observe(self._told.observe, created_at)

    def _observe(self, observe: Callable[[float], None], since: datetime | None) -> None:
        if since is not None:
            seconds = (datetime.now(UTC) - since).total_seconds()
            if seconds <= self._live_window:
                observe(max(seconds, 0.0))  # clocks of machines differ

    # Reading --------------------------------------------------------------------------------

    def collect(self) -> Iterable[Metric]:
        """Yield what the sources say now; called by prometheus-client."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        found: dict[str, float | Mapping[str, float]] = {}
        for source in self._sources:
            found.update(source())
        for name, value in found.items():
            if isinstance(value, Mapping):
                family = CounterMetricFamily(
                    f"conv_realtime_{name}", _COUNTERS[name], labels=["reason"]
                )
                for reason, count in value.items():
                    family.add_metric([reason], count)
                yield family
            elif name in _COUNTERS:
                yield CounterMetricFamily(f"conv_realtime_{name}", _COUNTERS[name], value=value)
            else:
                yield GaugeMetricFamily(f"conv_realtime_{name}", _GAUGES[name], value=value)

    def page(self) -> tuple[bytes, str]:
        """Return the text that Prometheus reads, and its media type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST
