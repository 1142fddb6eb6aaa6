"""Layers go onto devices as far as they fit; what fits nowhere is refused with numbers and advice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from appliance.fitting import Device, Kind, Machine, Wanted, estimate, plan, shape_of
from appliance.fitting.advice import changes
from appliance.gguf import header
from tests.starter import starter_model

SHAPE = shape_of([header.read(starter_model())])
MIB = 1024 * 1024
GIB = 1024 * MIB
FOUND = estimate(SHAPE, Wanted(8192, 16, 512, tuned=(True, False)), on_host=False)
NEEDED = FOUND.loaded_bytes


def device(mib: int, name: str = "CUDA0") -> Device:
    return Device(name, mib * MIB, 80 * GIB)


def test_everything_on_a_large_device() -> None:
    """All layers and the head: the host keeps the input's matrix, the program and the inputs of a batch."""
    made = plan(FOUND, Machine(8 * GIB, (device(8000),)))

    assert made.fits
    assert made.n_gpu_layers == 31
    assert made.tensor_split == ()
    assert made.host.needed < NEEDED / 2
    assert made.devices[0].needed > sum(FOUND.layers)


def test_as_many_layers_as_fit() -> None:
    """One layer more would not fit, and those that stay are the first ones."""
    small = Machine(8 * GIB, (device(800),))
    made = plan(FOUND, small)

    assert 0 < made.n_gpu_layers < 31
    assert made.fits
    assert not plan(FOUND, small, made.n_gpu_layers + 1).fits


def test_device_that_is_too_small_is_left_alone() -> None:
    """Where not even the head fits, the processor does everything."""
    made = plan(FOUND, Machine(8 * GIB, (device(520),)))

    assert (made.n_gpu_layers, made.fits) == (0, True)


def test_several_devices_share_by_what_they_have() -> None:
    """Three parts and one: the shares are told to the library, and each device holds what it was given."""
    made = plan(FOUND, Machine(8 * GIB, (device(3000), device(1500, "CUDA1"))))
    large, small = made.devices

    assert made.n_gpu_layers == 31
    assert made.tensor_split[0] > 2 * made.tensor_split[1]
    assert large.needed > small.needed
    assert made.fits


def test_what_was_asked_for_is_not_made_smaller() -> None:
    """A number of layers is a wish: where it does not fit the plan says so, and advice names the way out."""
    machine = Machine(8 * GIB, (device(800),))
    made = plan(FOUND, machine, 31)

    assert not made.fits
    assert made.devices[0].missing > 0
    assert ("n_gpu_layers", -1) in {(each.setting, each.value) for each in changes(FOUND, machine, 31)}


def test_advice_would_do() -> None:
    """Each setting that is named makes it fit, and one step more of it would not."""
    machine = Machine(480 * MIB)
    wide = estimate(SHAPE, Wanted(8192, 16, 512, tuned=(False, False)))
    told = changes(wide, machine, 0)
    named = {each.setting: each.value for each in told if each.setting}

    assert not plan(wide, machine, 0).fits
    assert "n_ctx" in named
    for setting, value in named.items():
        step = {"n_ctx": 256, "n_batch": 64, "n_seq_max": 1}[setting]
        options: list[dict[str, Any]] = [{setting: value}, {setting: value + step}]
        fitting, larger = (replace(wide.wanted, **each) for each in options)
        assert plan(estimate(SHAPE, fitting), machine, 0).fits
        assert not plan(estimate(SHAPE, larger), machine, 0).fits


def test_weights_that_are_too_large_alone() -> None:
    """No setting helps: a smaller quantization while it could, and more memory in any case."""
    least = estimate(SHAPE, Wanted(512, 1, 64, tuned=(True, False)))
    short = changes(least, Machine(least.loaded_bytes + 100 * MIB), 0)
    hopeless = changes(least, Machine(least.loaded_bytes - 100 * MIB), 0)

    assert [each.setting for each in (*short, *hopeless)] == [""] * 3
    assert "quantization of at most 64 MiB" in short[0].words
    assert "28 MiB more memory" in short[1].words
    assert "228 MiB more memory" in hopeless[0].words


def test_what_fits_needs_no_advice() -> None:
    """Nothing is told where nothing is to be changed."""
    assert changes(FOUND, Machine(8 * GIB), 0) == ()


@given(
    st.integers(200, 4000),
    st.lists(st.integers(0, 3000), max_size=4),
    st.integers(-1, 40),
)
def test_nothing_is_lost_and_nothing_is_made_up(host: int, devices: list[int], layers: int) -> None:
    """Whatever the machine: the weights lie somewhere, and a plan that fits needs no more than there is."""
    machine = Machine(host * MIB, tuple(device(each, f"CUDA{at}") for at, each in enumerate(devices)))
    made = plan(FOUND, machine, layers)

    assert sum(each.needed for each in made.rooms) >= FOUND.of(Kind.WEIGHTS) + FOUND.of(Kind.CELLS)
    assert made.fits == all(each.needed <= each.free for each in made.rooms)
    assert len(made.tensor_split) in (0, len(devices))
    if not devices:
        assert made.n_gpu_layers == 0
