"""Numbers for `/metrics`: counts and times, never names, content or keys.

One registry per appliance, so that tests do not share state. Label values come from closed lists
(model ids of the catalogue, outcomes, error codes); a caller can not invent one.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from appliance.core import Outcome, Usage
from appliance.tasks import Endpoint

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 60, 300)


class Metrics:
    """The appliance's own numbers."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._closed = Counter(
            "appliance_requests_closed_total",
            "Requests by how they were closed on the record",
            ("model", "outcome", "endpoint"),
            registry=self._registry,
        )
        self._unrecorded = Counter(
            "appliance_requests_unrecorded_total",
            "Requests stopped because the audit log could not commit",
            registry=self._registry,
        )
        self._refused = Counter(
            "appliance_requests_refused_total",
            "Requests refused before an opening, by error code",
            ("code",),
            registry=self._registry,
        )
        self._tokens = Counter(
            "appliance_tokens_total",
            "Tokens computed, by model and kind",
            ("model", "kind"),
            registry=self._registry,
        )
        self._duration = Histogram(
            "appliance_request_duration_seconds",
            "From admission to the closing record",
            ("model", "endpoint"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._first_piece = Histogram(
            "appliance_time_to_first_piece_seconds",
            "From admission to the first piece that left the box",
            ("model",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._audit_ready = Gauge(
            "appliance_audit_ready",
            "1 while the audit log commits, 0 when latched",
            registry=self._registry,
        )
        self._audit_size = Gauge(
            "appliance_audit_tree_size", "Entries on the audit log", registry=self._registry
        )
        self._engine_ready = Gauge(
            "appliance_model_ready",
            "1 while the model's worker answers",
            ("model",),
            registry=self._registry,
        )
        self._engine_restarts = Gauge(
            "appliance_model_restarts",
            "Restarts of the model's worker since the start",
            ("model",),
            registry=self._registry,
        )
        self._sequences = Gauge(
            "appliance_sequences",
            "Sequences in the model's worker",
            ("model", "state"),
            registry=self._registry,
        )
        self._cells = Gauge(
            "appliance_cells",
            "Cells of the model's key-value pool, by who holds them",
            ("model", "holder"),
            registry=self._registry,
        )

    def request_closed(
        self, *, model: str, endpoint: Endpoint, outcome: Outcome, usage: Usage, duration_us: int
    ) -> None:
        """A closing is durable."""
        self._closed.labels(model, outcome, endpoint).inc()
        self._tokens.labels(model, "prompt").inc(usage.prompt_tokens)
        self._tokens.labels(model, "cached").inc(usage.cached_tokens)
        self._tokens.labels(model, "completion").inc(usage.completion_tokens)
        self._duration.labels(model, endpoint).observe(duration_us / 1e6)

    def first_piece(self, *, model: str, duration_us: int) -> None:
        """The first piece of an answer was handed to the border."""
        self._first_piece.labels(model).observe(duration_us / 1e6)

    def request_failed_unrecorded(self) -> None:
        """The log latched under a running request."""
        self._unrecorded.inc()

    def request_refused(self, code: str) -> None:
        """A request was refused; `code` is one of ours."""
        self._refused.labels(code).inc()

    def audit(self, *, ready: bool, tree_size: int) -> None:
        """The log's state at the moment of the scrape."""
        self._audit_ready.set(ready)
        self._audit_size.set(tree_size)

    def engine(self, model: str, *, ready: bool, restarts: int) -> None:
        """One worker's state at the moment of the scrape."""
        self._engine_ready.labels(model).set(ready)
        self._engine_restarts.labels(model).set(restarts)

    def scheduler(
        self, model: str, *, running: int, waiting: int, cells_used: int, cells_cached: int
    ) -> None:
        """The worker's newest picture of its scheduler."""
        self._sequences.labels(model, "running").set(running)
        self._sequences.labels(model, "waiting").set(waiting)
        self._cells.labels(model, "running").set(cells_used - cells_cached)
        self._cells.labels(model, "cached").set(cells_cached)

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self._registry)
