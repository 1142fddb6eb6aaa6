"""`appliance model show`: what a model's file says of itself, and whether it fits this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import click

from appliance import asking, config
from appliance.cli.base import home_option, json_option, show, table
from appliance.commands import Done, Look
from appliance.config import Home
from appliance.core import ModelSpec
from appliance.engine import devices, fits, wire
from appliance.engine.tunings import Tunings
from appliance.engine_settings import Engine
from appliance.errors import ApplianceError, RequestError, SetupError
from appliance.fitting import Estimate, Machine, Plan, Room, Shape, Wanted, estimate, plan, shape_of
from appliance.fitting.advice import changes, most_cells
from appliance.fitting.estimate import LATER
from appliance.fitting.machine import read_machine
from appliance.gguf import header
from appliance.gguf.header import Header
from appliance.modelling import catalog_of

_MIB: Final = 1024 * 1024
_WIDTH: Final = 40


@click.command(name="show")
@click.argument("name", default="default")
@click.option("--n-ctx", type=click.IntRange(256), help="Reckon with so many cells.")
@click.option("--n-seq-max", type=click.IntRange(1, 64), help="Reckon with so many answers at once.")
@click.option("--n-batch", type=click.IntRange(64, 8192), help="Reckon with so many tokens of a step.")
@home_option
@json_option
def show_model(
    name: str, home: Home, *, n_ctx: int | None, n_seq_max: int | None, n_batch: int | None, as_json: bool
) -> None:
    """Show what a model is, whether it fits, and what would change that.

    Its file's header is read, and nothing is loaded. Without options it is reckoned with the
    configuration's own.

    \b
    Example: appliance model show default --n-ctx 32768
    """
    settings = config.load(home)
    catalog = catalog_of(home, settings)
    spec = catalog.named(name)
    headers = _headers(spec)
    shape = shape_of(headers)
    engine = settings.engine
    wanted = _wanted(spec, home, engine)
    wanted = replace(
        wanted,
        n_ctx=n_ctx or wanted.n_ctx,
        n_seq_max=n_seq_max or wanted.n_seq_max,
        n_batch=n_batch or wanted.n_batch,
    )
    if wanted.n_batch <= wanted.n_seq_max:
        raise RequestError("--n-batch must be above --n-seq-max", code="invalid_value")
    running = _running(home, spec.id)
    look = _looked_at(shape, wanted, running, engine, dialled=bool(engine.worker_socket))
    facts = _facts(spec, catalog.names_of(spec.id), headers, shape)
    result = {**facts, **_told(look), "measured": running}
    show(result, [*_fact_lines(facts), "", *_lines(look), *_measured_lines(running)], as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Reckoned:
    found: Estimate
    machine: Machine
    made: Plan
    advice: tuple[str, ...]


def _looked_at(
    shape: Shape, wanted: Wanted, running: dict[str, Any], engine: Engine, *, dialled: bool
) -> _Reckoned:
    memories = tuple(fits.device_of(each) for each in running.get("memories", ()))
    on_host = not memories and not devices.will_load_gpu(engine.device, engine.n_gpu_layers)
    # What this very model holds is free again before it is loaded anew.
    held = int(running.get("resident_bytes", 0))
    free = read_machine(memories, in_groups=not dialled)
    machine = replace(free, free_bytes=min(free.free_bytes + held, free.total_bytes))
    found = estimate(shape, wanted, on_host=on_host)
    layers = 0 if on_host else engine.n_gpu_layers
    made = plan(found, machine, layers)
    advice = [each.words for each in changes(found, machine, layers)]
    if made.fits and (value := most_cells(found, machine, layers)) > wanted.n_ctx:
        advice.append(f"engine.n_ctx up to {value} would fit")
    if not on_host and not memories:
        advice.append("what a GPU has is known while the appliance runs: its worker divides the layers then")
    return _Reckoned(found, machine, made, tuple(advice))


def _headers(spec: ModelSpec) -> list[Header]:
    paths = [each.path for each in spec.parts] or [spec.path]
    missing = next((each for each in paths if not each.is_file()), None)
    if missing is not None:
        raise SetupError(f"{spec.id} is not in the store of this home", code="model_missing")
    return [header.read(each) for each in paths]


def _wanted(spec: ModelSpec, home: Home, engine: Engine) -> Wanted:
    tunings = Tunings(home.tuning, n_gpu_layers=engine.n_gpu_layers)
    return fits.wanted_of(wire.load_message(spec, engine, tunings.find(spec), thorough=False))


def _running(home: Home, model_id: str) -> dict[str, Any]:
    """What the running gateway says of this model's worker; empty where none runs, or may be asked."""
    try:
        answer = asking.send(home.control_socket, Look(), timeout_seconds=10)
    except (ApplianceError, OSError):
        return {}
    if not isinstance(answer, Done):
        return {}
    found = answer.result.get("loaded", {}).get(model_id, {})
    return dict(found)


def _facts(spec: ModelSpec, aliases: Sequence[str], headers: list[Header], shape: Shape) -> dict[str, Any]:
    head = headers[0]
    template = head.text("tokenizer.chat_template")
    return {
        "id": spec.id,
        "aliases": list(aliases),
        "sha256": spec.sha256,
        "size_bytes": spec.size_bytes,
        "licence": spec.licence,
        "purpose": spec.purpose.value,
        "architecture": shape.arch,
        "num_layers": len(shape.layers),
        "num_parameters": sum(each.num_elements for part in headers for each in part.tensors),
        "quantization": head.quant,
        "n_ctx_train": shape.n_ctx_train,
        "n_vocab": shape.n_vocab,
        "num_experts": shape.n_expert,
        "template_sha256": hashlib.sha256(template.encode()).hexdigest() if template else "",
    }


def _told(look: _Reckoned) -> dict[str, Any]:
    found, wanted = look.found, look.found.wanted
    return {
        "wanted": {"n_ctx": wanted.n_ctx, "n_seq_max": wanted.n_seq_max, "n_batch": wanted.n_batch},
        "parts": {each.kind.value: each.bytes for each in found.parts},
        "loaded_bytes": found.loaded_bytes,
        "later_bytes": found.later_bytes,
        "not_counted": list(found.unknown),
        "fits": look.made.fits,
        "n_gpu_layers": look.made.n_gpu_layers,
        "tensor_split": list(look.made.tensor_split),
        "rooms": [
            {"name": each.name, "needed_bytes": each.needed, "free_bytes": max(0, each.free)}
            for each in look.made.rooms
        ],
        "changes": list(look.advice),
    }


def _fact_lines(facts: dict[str, Any]) -> list[str]:
    experts = f", {facts['num_experts']} experts" if facts["num_experts"] else ""
    rows = [
        ("aliases", ", ".join(facts["aliases"]) or "none"),
        ("file", f"sha256 {facts['sha256']}, {_mib(facts['size_bytes'])} MiB"),
        ("licence", facts["licence"]),
        ("architecture", f"{facts['architecture']}, {facts['num_layers']} layers{experts}"),
        ("parameters", f"{facts['num_parameters']:,} in {facts['quantization']}"),
        ("context", f"{facts['n_ctx_train']} tokens trained"),
        ("template", facts["template_sha256"] and f"sha256 {facts['template_sha256']}"),
    ]
    return [facts["id"], *(f"  {name:<13} {value or 'none'}" for name, value in rows)]


def _lines(look: _Reckoned) -> list[str]:
    found, wanted = look.found, look.found.wanted
    rows = [
        (each.kind.value, f"{_mib(each.bytes):>8}", "later, at most" if each.kind in LATER else "")
        for each in found.parts
    ]
    asked = f"n_ctx {wanted.n_ctx}, n_seq_max {wanted.n_seq_max}, n_batch {wanted.n_batch}"
    lines = [f"With {asked} it needs:", *table(("FOR", "     MiB", ""), rows)]
    lines += [f"not counted, because nobody knows it from a header: {each}" for each in found.unknown]
    lines += ["", *(_bar(each) for each in look.made.rooms if each.needed)]
    if look.made.devices:
        lines.append(f"on the GPUs: {look.made.n_gpu_layers} of {len(found.layers) + 1} layers")
    lines += ["it fits" if look.made.fits else "it does not fit", *(f"  {each}" for each in look.advice)]
    return lines


def _bar(room: Room) -> str:
    free = max(1, room.free)
    drawn = min(_WIDTH, round(_WIDTH * room.needed / free))
    bar = "#" * drawn + "-" * (_WIDTH - drawn)
    return f"{room.name:<6} [{bar}] {_mib(room.needed)} of {_mib(max(0, room.free))} MiB that are free"


def _measured_lines(running: dict[str, Any]) -> list[str]:
    if not running:
        return []
    kinds = ", ".join(f"{name} {_mib(size)}" for name, size in running["buffers"].items())
    held = _mib(running["resident_bytes"])
    return ["", f"loaded now: the library took {kinds} MiB; the worker holds {held} MiB"]


def _mib(size: int) -> int:
    return -(-size // _MIB)
