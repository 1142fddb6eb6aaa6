"""Numbers for `/metrics`: counts and times, never names, content or keys.

One registry per appliance, so that tests do not share state. Label values come from closed lists
(model ids of the catalogue, outcomes, error codes); a caller can not invent one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from appliance.core import Outcome, Role, Usage
from appliance.model_metrics import ModelMetrics
from appliance.terms import Endpoint

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FIRST_TOKEN_BOUNDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 60, 300)
GAP_BOUNDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2, 5)


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """What a model's worker last told about itself. Counts begin again with each worker."""

    running: int
    waiting: int
    cells: int  # of the whole pool
    cells_used: int
    cells_cached: int
    cells_spilled: int
    step_us: int
    step_bounds_us: Sequence[int]
    step_buckets: Sequence[int]  # one more than bounds: the last is for longer steps
    tokens: dict[str, int]  # by kind: prompt, cached, restored, completion, drafted, accepted


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted since the start, of all models together; queues as they are now.

    Times by bucket: one count more than there are bounds.
    """

    closed: Mapping[str, int]  # by outcome
    refused: Mapping[str, int]  # by code
    first_token: tuple[int, ...]  # by FIRST_TOKEN_BOUNDS
    gap: tuple[int, ...]  # by GAP_BOUNDS
    steps: int
    step_us: int
    completion_tokens: int
    running: int
    waiting: int


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
        self._replayed = Counter(
            "appliance_requests_replayed_total",
            "Requests asked again under their idempotency key, and not run again",
            ("endpoint",),
            registry=self._registry,
        )
        self._verdicts = Counter(
            "appliance_guardrail_verdicts_total",
            "What rules decided on questions (input) and answers (output), by action",
            ("side", "action"),
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
            buckets=FIRST_TOKEN_BOUNDS,
            registry=self._registry,
        )
        self._first_piece = Histogram(
            "appliance_time_to_first_piece_seconds",
            "From admission to the first piece that left the box",
            ("model",),
            buckets=FIRST_TOKEN_BOUNDS,
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
        self._verified = Gauge(
            "appliance_audit_verified",
            "1 when the record was last verified green; 0 when red, not readable, or not verified yet",
            registry=self._registry,
        )
        self._verified_at = Gauge(
            "appliance_audit_verified_timestamp_seconds",
            "When the record was last verified, 0 for never",
            registry=self._registry,
        )
        self._verified_size = Gauge(
            "appliance_audit_verified_tree_size", "Entries that this verified", registry=self._registry
        )
        self._cosigned_at = Gauge(
            "appliance_audit_cosigned_timestamp_seconds",
            "When a witness last cosigned a checkpoint, 0 for never",
            registry=self._registry,
        )
        self._witness_stale = Gauge(
            "appliance_audit_witness_stale",
            "1 while a pinned witness's last cosignature is older than audit.witness_max_age_days",
            registry=self._registry,
        )
        self._disk_free = Gauge(
            "appliance_disk_free_bytes", "Room in the home's file system", registry=self._registry
        )
        self._disk_used = Gauge(
            "appliance_disk_used_ratio",
            "Used part of the home's file system; an alarm from 0.75 on",
            registry=self._registry,
        )
        self._disk_low = Gauge(
            "appliance_disk_low",
            "1 while nothing new is admitted for want of room",
            registry=self._registry,
        )
        self._ballast = Gauge(
            "appliance_audit_ballast",
            "1 while the ballast for the last entries on a full disk is there",
            registry=self._registry,
        )
        self.models = ModelMetrics(self._registry)
        self._first_token = Histogram(
            "appliance_time_to_first_token_seconds",
            "From admission to the first token that the worker gave",
            ("model",),
            buckets=FIRST_TOKEN_BOUNDS,
            registry=self._registry,
        )
        self._gap = Histogram(
            "appliance_inter_token_seconds",
            "Between two messages of one answer from the worker, by token",
            ("model",),
            buckets=GAP_BOUNDS,
            registry=self._registry,
        )
        self._queue = Gauge(
            "appliance_queue_waiting",
            "Requests that wait for their turn, by the role of their key",
            ("role",),
            registry=self._registry,
        )
        self._queue_wait = Histogram(
            "appliance_queue_wait_seconds",
            "How long requests waited that did not go at once, whether or not their turn came",
            ("role",),
            buckets=FIRST_TOKEN_BOUNDS,
            registry=self._registry,
        )
        self._num_queued = 0
        self._workers = _Workers()
        self._registry.register(self._workers)

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

    def first_token(self, *, model: str, duration_us: int) -> None:
        """The worker's first token has come; strict mode has yet to record it."""
        self._first_token.labels(model).observe(duration_us / 1e6)

    def next_tokens(self, *, model: str, duration_us: int, num_tokens: int) -> None:
        """The worker's next tokens have come, so long after those before."""
        self._gap.labels(model).observe(duration_us / 1e6 / max(1, num_tokens))

    def request_failed_unrecorded(self) -> None:
        """The log latched under a running request."""
        self._unrecorded.inc()

    def request_refused(self, code: str) -> None:
        """A request was refused; `code` is one of ours."""
        self._refused.labels(code).inc()

    def waits(self, role: Role, change: int) -> None:
        """One more waits for its turn (1), or one less (-1)."""
        self._num_queued += change
        self._queue.labels(role).inc(change)

    def waited(self, role: Role, *, duration_us: int) -> None:
        """A wait is over."""
        self._queue_wait.labels(role).observe(duration_us / 1e6)

    def verdict(self, *, side: str, action: str) -> None:
        """A rule met its words in a question (`input`) or an answer (`output`)."""
        self._verdicts.labels(side, action).inc()

    def request_replayed(self, endpoint: Endpoint) -> None:
        """A retry was given the exchange that it had begun before."""
        self._replayed.labels(endpoint).inc()

    def audit(self, *, ready: bool, tree_size: int) -> None:
        """The log's state at the moment of the scrape."""
        self._audit_ready.set(ready)
        self._audit_size.set(tree_size)

    def verified(self, *, green: bool, tree_size: int, ts_us: int) -> None:
        """The newest verification of the record."""
        self._verified.set(green)
        self._verified_size.set(tree_size)
        self._verified_at.set(ts_us / 1e6)

    def witness(self, *, cosigned_at: int, is_stale: bool) -> None:
        """How the log stands with its witnesses."""
        self._cosigned_at.set(cosigned_at)
        self._witness_stale.set(is_stale)

    def disk(self, *, free_bytes: int, used: float, low: bool, ballast: bool) -> None:
        """The home's disk as the log's writer saw it last."""
        self._disk_free.set(free_bytes)
        self._disk_used.set(used)
        self._disk_low.set(low)
        self._ballast.set(ballast)

    def workers(self, figures: Mapping[str, WorkerFigures | None]) -> None:
        """Every worker's newest picture of itself, by model; None where one has told nothing."""
        self._workers.figures = {model: each for model, each in figures.items() if each is not None}

    def counts(self) -> Counts:
        """Everything that trends are drawn from."""
        workers = list(self._workers.figures.values())
        return Counts(
            closed=_by_label(self._closed, "outcome"),
            refused=_by_label(self._refused, "code"),
            first_token=_buckets(self._first_token, len(FIRST_TOKEN_BOUNDS)),
            gap=_buckets(self._gap, len(GAP_BOUNDS)),
            steps=sum(sum(each.step_buckets) for each in workers),
            step_us=sum(each.step_us for each in workers),
            completion_tokens=sum(each.tokens["completion"] for each in workers),
            running=sum(each.running for each in workers),
            waiting=sum(each.waiting for each in workers) + self._num_queued,
        )

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self._registry)


class _Workers(Collector):
    """Figures that are counted in the workers, told as they were told here."""

    def __init__(self) -> None:
        self.figures: dict[str, WorkerFigures] = {}

    def collect(self) -> Iterator[Metric]:
        """Called at each scrape."""
        sequences = GaugeMetricFamily(
            "appliance_sequences", "Sequences in the model's worker", labels=("model", "state")
        )
        cells = GaugeMetricFamily(
            "appliance_cells",
            "Cells of the model's key-value pool by who holds them; spilled ones lie in the host's memory",
            labels=("model", "holder"),
        )
        tokens = CounterMetricFamily(
            "appliance_worker_tokens",
            "Tokens in the worker: computed, taken from a prefix, guessed and found right",
            labels=("model", "kind"),
        )
        steps = HistogramMetricFamily(
            "appliance_step_seconds", "One forward pass for everybody, sampling included", labels=("model",)
        )
        for model, each in self.figures.items():
            sequences.add_metric((model, "running"), each.running)
            sequences.add_metric((model, "waiting"), each.waiting)
            cells.add_metric((model, "running"), each.cells_used - each.cells_cached)
            cells.add_metric((model, "cached"), each.cells_cached)
            cells.add_metric((model, "free"), each.cells - each.cells_used)
            cells.add_metric((model, "spilled"), each.cells_spilled)
            for kind, count in each.tokens.items():
                tokens.add_metric((model, kind), count)
            steps.add_metric((model,), buckets=_cumulative(each), sum_value=each.step_us / 1e6)
        yield from (sequences, cells, tokens, steps)


def _by_label(counter: Counter, label: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for metric in counter.collect():
        for sample in metric.samples:
            if sample.name.endswith("_total"):
                name = sample.labels[label]
                found[name] = found.get(name, 0) + int(sample.value)
    return found


def _buckets(histogram: Histogram, num_bounds: int) -> tuple[int, ...]:
    """Of all labels together, each bucket by itself: Prometheus adds them up."""
    totals = [0] * (num_bounds + 1)
    for metric in histogram.collect():
        within = [int(each.value) for each in metric.samples if each.name.endswith("_bucket")]
        for start in range(0, len(within), num_bounds + 1):
            before = 0
            for place, count in enumerate(within[start : start + num_bounds + 1]):
                totals[place] += count - before
                before = count
    return tuple(totals)


def _cumulative(figures: WorkerFigures) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip(figures.step_bounds_us, figures.step_buckets, strict=False):
        total += count
        buckets.append((str(bound / 1e6), total))
    return [*buckets, ("+Inf", total + figures.step_buckets[-1])]
