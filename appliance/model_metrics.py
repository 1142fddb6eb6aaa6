"""Numbers for `/metrics` of each model that can be asked: in memory or not, and why it came and went."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class ModelMetrics:
    """A part of `metrics`. Labels: ids of the catalogue's models, and the few words of `why`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._engine_ready = Gauge(
            "appliance_model_ready",
            "1 while the model's worker answers",
            ("model",),
            registry=registry,
        )
        self._engine_restarts = Gauge(
            "appliance_model_restarts",
            "Restarts of the model's worker since the start",
            ("model",),
            registry=registry,
        )
        self._engine_bytes = Gauge(
            "appliance_model_memory_bytes",
            "Memory that the model holds, or is reckoned to need while it is being loaded",
            ("model",),
            registry=registry,
        )
        self._budget = Gauge(
            "appliance_memory_budget_bytes", "Memory for all models together", registry=registry
        )
        self._loads = Counter(
            "appliance_model_loads_total",
            "Workers that became ready, by why: start, demand, activation, restart",
            ("model", "why"),
            registry=registry,
        )
        self._unloads = Counter(
            "appliance_model_unloads_total",
            "Workers that were stopped, by why: room, idle, failed, stop",
            ("model", "why"),
            registry=registry,
        )
        self._backends = _Backends()
        registry.register(self._backends)

    def engine(self, model: str, *, ready: bool, restarts: int, num_bytes: int, backend: str = "") -> None:
        """One model's state at the moment of the scrape; 0 of all where it is not loaded. `backend`: what
        computes, where it is ready.
        """
        if backend:
            self._backends.found[model] = backend
        else:
            self._backends.found.pop(model, None)
        self._engine_bytes.labels(model).set(num_bytes)
        self._engine_ready.labels(model).set(ready)
        self._engine_restarts.labels(model).set(restarts)

    def memory(self, budget_bytes: int) -> None:
        """What all models together may hold."""
        self._budget.set(budget_bytes)

    def loaded(self, model: str, why: str) -> None:
        """A worker is ready."""
        self._loads.labels(model, why).inc()

    def unloaded(self, model: str, why: str) -> None:
        """A worker was stopped."""
        self._unloads.labels(model, why).inc()


class _Backends(Collector):
    """What models compute with, told while they are ready."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def collect(self) -> Iterator[Metric]:
        """Called at each scrape."""
        computes = GaugeMetricFamily(
            "appliance_model_backend",
            "1 for what a ready model computes with: its devices, and the variant for the processor",
            labels=("model", "backend"),
        )
        for model, backend in self.found.items():
            computes.add_metric((model, backend), 1)
        yield computes
