"""`appliance bench`: how a model computes on this machine, and which settings fit it best."""

from __future__ import annotations

import asyncio
from typing import Any

import click
import msgspec

from appliance import asking, config
from appliance.cli.base import home_option, json_option, show, table
from appliance.clock import SystemClock
from appliance.commands import ListKeys
from appliance.config import Home, Settings
from appliance.core import ModelSpec
from appliance.engine.messages import Ready, Trial
from appliance.engine.supervisor import Engine
from appliance.engine.tunings import Tunings
from appliance.errors import RequestError, SetupError
from appliance.modelling import catalog_of


@click.command()
@click.option("--model", "name", default="default", show_default=True, help="An id or an alias.")
@click.option("--tune", is_flag=True, help="Keep the best settings: the next start uses them.")
@home_option
@json_option
def bench(name: str, home: Home, *, tune: bool, as_json: bool) -> None:
    """Measure a model on this machine: attention kernels and threads, in tokens per second.

    Takes about a minute for a small model. Stop the gateway first: two workers on the same cores
    would measure each other.

    \b
    Examples: appliance bench
              appliance bench --tune
    """
    settings = config.load(home)
    if asking.send(home.control_socket, ListKeys()) is not None:
        raise RequestError(
            "the gateway is running: its worker would be measured too",
            code="gateway_running",
            hint="stop it, measure, and start it again",
        )
    catalog = catalog_of(home, settings)
    spec = catalog.resolve(name)
    if spec is None:
        raise RequestError("there is no such model", code="model_not_found", hint="appliance model list")
    catalog.verify(spec)
    store = Tunings(home.tuning, n_gpu_layers=settings.engine.n_gpu_layers)
    used = store.find(spec)
    click.echo(f"measuring {spec.id}; this takes about a minute", err=True)
    ready = asyncio.run(_measure(spec, settings))
    if tune:
        store.store(spec, ready.tuning, ready.trials)
    result = {
        "model": spec.id,
        "backend": ready.backend,
        "trials": [msgspec.to_builtins(each) for each in ready.trials],
        "best": msgspec.to_builtins(ready.tuning),
        "in_use": msgspec.to_builtins(ready.tuning if tune else used),
        "stored": str(store.path(spec)) if tune else None,
    }
    show(result, _told(ready, result), as_json=as_json)


async def _measure(spec: ModelSpec, settings: Settings) -> Ready:
    engine_settings = msgspec.structs.replace(settings.engine, shared_prefixes=())
    engine = Engine(spec, engine_settings, clock=SystemClock(), on_event=lambda _event: None, thorough=True)
    await engine.start()
    try:
        await engine.wait_ready(settings.engine.load_timeout_seconds)
        ready = engine.status.ready
        if ready is None:
            raise SetupError(f"{spec.id} does not load: {engine.status.last_error}", code="load_failed")
        return ready
    finally:
        await engine.stop()


def _told(ready: Ready, result: dict[str, Any]) -> list[str]:
    rows = [_row(each) for each in ready.trials]
    header = (
        "ATTENTION",
        "THREADS",
        "PROMPT tok/s",
        "1 ANSWER tok/s",
        "A ROOM OF 8 tok/s",
        "8 STRANGERS tok/s",
    )
    best = ready.tuning
    lines = [
        f"{result['model']} on {ready.backend}",
        *table(header, rows),
    ]
    lines.append(
        f"best: {_kernel(best.flash_attn)}, {best.n_threads} threads for one answer, "
        f"{best.n_threads_batch} for more and for prompts"
    )
    if best.apart:
        lines.append("besides: a pool apart with flash attention, for requests that share nothing")
    if result["stored"]:
        lines.append(f"stored in {result['stored']}; the next start uses it")
    elif result["in_use"] is None:
        lines.append("nothing is stored yet: the first start measures, or run: appliance bench --tune")
    elif result["in_use"] != result["best"]:
        lines.append("another setting is in use; to change it run: appliance bench --tune")
    return lines


def _row(trial: Trial) -> tuple[str, ...]:
    return (
        _kernel(trial.tuning.flash_attn),
        str(trial.tuning.n_threads),
        f"{trial.prefill:.0f}",
        f"{trial.decode_1:.0f}",
        f"{trial.room:.0f}",
        f"{trial.apart:.0f}",
    )


def _kernel(flash_attn: bool) -> str:  # noqa: FBT001 - a value, not a switch
    return "flash" if flash_attn else "plain"
