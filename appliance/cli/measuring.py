"""`appliance model bench`: how fast files compute on this machine, and what they take of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from appliance import asking, config, durable
from appliance.catalog import Catalog
from appliance.cli.base import NEW_FILE, home_option, json_option, require_new, show, table
from appliance.cli.progress import Progress
from appliance.clock import SystemClock
from appliance.config import Home, Settings
from appliance.console.plots import Plot, Series
from appliance.core import ModelSpec, Purpose
from appliance.engine.tunings import Tunings
from appliance.errors import RequestError
from appliance.evaluating import speed
from appliance.evaluating.speed import Figures, Sizes
from appliance.gguf import header
from appliance.modelling import catalog_of

_MIB: Final = 1 << 20
_NONE: Final = "–"
_MAX_STREAMS: Final = 64


@dataclass(frozen=True, slots=True)
class Measured:
    """One file and its figures."""

    spec: ModelSpec
    quantization: str
    figures: Figures


@click.command(name="bench")
@click.argument("names", nargs=-1, metavar="[MODEL]…")
@click.option(
    "--streams",
    type=click.IntRange(1, _MAX_STREAMS),
    multiple=True,
    default=(1, 8),
    show_default=True,
    help="How many answers at once; may be given again.",
)
@click.option(
    "--prompt-tokens",
    type=click.IntRange(16, 100_000),
    default=512,
    show_default=True,
    help="How long a prompt is.",
)
@click.option(
    "--answer-tokens",
    type=click.IntRange(speed.MIN_WINDOW + 1, 10_000),
    default=64,
    show_default=True,
    help="How long an answer is at most.",
)
@click.option("--plot", type=NEW_FILE, help="Draw the figures into an SVG file.")
@click.option("--beside-gateway", is_flag=True, help="Measure although a gateway is running.")
@home_option
@json_option
def bench(
    names: tuple[str, ...],
    streams: tuple[int, ...],
    prompt_tokens: int,
    answer_tokens: int,
    plot: Path | None,
    home: Home,
    *,
    beside_gateway: bool,
    as_json: bool,
) -> None:
    """Measure files on this machine: load time, memory, and tokens per second; without a name, the default.

    A file after the other gets a worker of its own. Stop the gateway first: two workers on the same cores
    would measure each other. Which settings of a model are best is another question: appliance bench --tune.

    \b
    Examples: appliance model bench
              appliance model bench big-q4 big-q8 --plot big.svg
    """
    settings = config.load(home)
    if plot is not None:
        require_new(plot)
    if not beside_gateway and asking.gateway_pid(home.control_socket) is not None:
        raise RequestError(
            "the gateway is running: its worker would be measured too",
            code="gateway_running",
            hint="stop it, measure, and start it again, or say --beside-gateway",
        )
    catalog = catalog_of(home, settings)
    specs = [_found(catalog, each) for each in dict.fromkeys(names or ("default",))]
    for each in specs:
        catalog.verify(each, Progress("hashing", of_bytes=True).update)
    sizes = Sizes(tuple(sorted(set(streams))), prompt_tokens, answer_tokens)
    measured = asyncio.run(_measure(home, settings, list(dict.fromkeys(specs)), sizes))
    if plot is not None:
        durable.write_file(plot, picture(measured, sizes).encode(), mode=0o644)
    show({"models": [_told(each, sizes) for each in measured]}, _lines(measured, sizes), as_json=as_json)


def _found(catalog: Catalog, name: str) -> ModelSpec:
    spec = catalog.named(name)
    if spec.purpose is Purpose.ADAPTER:
        raise RequestError(
            f"{name} is an adapter, which computes nothing by itself",
            code="not_a_model",
            hint="measure the model that it belongs to",
        )
    return spec


async def _measure(home: Home, settings: Settings, specs: list[ModelSpec], sizes: Sizes) -> list[Measured]:
    progress = Progress("measuring", of="figures", least=2)
    tunings = Tunings(home.tuning, n_gpu_layers=settings.engine.n_gpu_layers)
    total, number = speed.num_steps(sizes) * len(specs), 0

    def step() -> None:
        nonlocal number
        number += 1
        progress.update(number, total)

    progress.update(0, total)
    return [
        Measured(
            spec,
            header.read(spec.path).quant,
            await speed.measure(
                spec, settings.engine, sizes, clock=SystemClock(), tunings=tunings, step=step
            ),
        )
        for spec in specs
    ]


def _told(measured: Measured, sizes: Sizes) -> dict[str, Any]:
    found = measured.figures
    return {
        "model": measured.spec.id,
        "sha256": measured.spec.sha256,
        "quantization": measured.quantization,
        "size_bytes": measured.spec.size_bytes,
        "resident_bytes": found.resident_bytes,
        "backend": found.backend,
        "load_seconds": round(found.load_us / 1e6, 3),
        "prompt_tokens": found.prompt_tokens,
        "first_token_seconds": None if found.first_token_us is None else round(found.first_token_us / 1e6, 4),
        "prefill_tokens_per_second": _rounded(found.prefill),
        "decode_tokens_per_second": {
            str(count): _rounded(each) for count, each in zip(sizes.streams, found.decode, strict=True)
        },
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _lines(measured: list[Measured], sizes: Sizes) -> list[str]:
    header_row = (
        "MODEL",
        "QUANTIZATION",
        "FILE MiB",
        "MEMORY MiB",
        "LOAD s",
        "FIRST TOKEN ms",
        "PROMPT tok/s",
        *(f"{count} AT ONCE tok/s" if count > 1 else "1 ANSWER tok/s" for count in sizes.streams),
    )
    rows = [
        (
            each.spec.id,
            each.quantization,
            f"{each.spec.size_bytes / _MIB:.0f}",
            _number(each.figures.resident_bytes, _MIB),
            f"{each.figures.load_us / 1e6:.2f}",
            _number(each.figures.first_token_us, 1000),
            _number(each.figures.prefill),
            *(_number(one, digits=1) for one in each.figures.decode),
        )
        for each in measured
    ]
    first = measured[0].figures
    return [
        *table(header_row, rows),
        f"on {first.backend}; first token of a prompt of {first.prompt_tokens} tokens, nobody beside",
    ]


def _number(value: float | None, unit: float = 1, *, digits: int = 0) -> str:
    return _NONE if value is None else f"{value / unit:.{digits}f}"


_STYLE: Final = (
    "text{font:12px system-ui,'DejaVu Sans',sans-serif;fill:#1b2733}"
    ".tick{font-size:10px;fill:#51606f}.grid-line{stroke:#d5dbe1;stroke-width:1}"
    ".bar-part.s1{fill:#0b5cad}"
)
_PANEL_HEIGHT: Final = 220  # a plot, and its heading
_PANEL_WIDTH: Final = 640


def picture(measured: list[Measured], sizes: Sizes) -> str:
    """Every figure as bars, a file beside the other; a whole SVG file."""
    figures = [each.figures for each in measured]
    panels: list[tuple[str, list[float | None]]] = [
        ("reading a prompt, tokens per second", [each.prefill for each in figures]),
        *(
            (f"answers, {count} at once, tokens per second", [each.decode[at] for each in figures])
            for at, count in enumerate(sizes.streams)
        ),
        ("first token, milliseconds", [_scaled(each.first_token_us, 1000) for each in figures]),
        ("loading, seconds", [each.load_us / 1e6 for each in figures]),
        ("memory of the machine, MiB", [_scaled(each.resident_bytes, _MIB) for each in figures]),
    ]
    labels = [f"{each.spec.id} ({each.quantization})" for each in measured]
    drawn = "".join(_panel(number, name, values, labels) for number, (name, values) in enumerate(panels))
    height = _PANEL_HEIGHT * len(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_PANEL_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_PANEL_WIDTH} {height}"><style>{_STYLE}</style>{drawn}</svg>\n'
    )


def _panel(number: int, name: str, values: list[float | None], labels: list[str]) -> str:
    plot = Plot(name, "", range(len(values)), [Series("", values)], is_stacked=True, labels=labels)
    return (
        f'<g transform="translate(0 {number * _PANEL_HEIGHT})"><text x="8" y="18">{name}</text>'
        f'<svg y="26" width="{_PANEL_WIDTH}" height="190">{plot.svg}</svg></g>'
    )


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit
