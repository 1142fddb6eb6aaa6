"""Where a worker puts its layers: as many on the GPU as fit, or as were asked for, or none."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from appliance.engine import devices, fits
from appliance.engine.messages import LoadModel, Tuning
from appliance.engine.worker.llama.library import Computing, LoadError
from appliance.engine.worker.llama.placing import place
from appliance.errors import Unavailable
from appliance.fitting import Device, Machine
from tests.starter import starter_model

MIB = 1024 * 1024
LOAD = LoadModel(
    "m", str(starter_model()), 4096, 4, 256, 1, 1, -1, 8, 150_000, 512,
    tuning=Tuning(flash_attn=True, n_threads=1, n_threads_batch=1),
)  # fmt: skip


def computing(*free_mib: int) -> Computing:
    memories = tuple(Device(f"CUDA{at}", each * MIB, 24_000 * MIB) for at, each in enumerate(free_mib))
    return Computing("CUDA", tuple(each.name for each in memories), memories=memories)


def test_without_a_gpu_nothing_is_placed() -> None:
    """The processor computes, and the library is told so."""
    placing = place(LOAD, Computing("CPU", ()))

    assert placing.on_host
    assert placing.tensor_split == ()


def test_all_layers_where_they_fit() -> None:
    """Thirty layers and the head; two GPUs are told their shares."""
    assert place(LOAD, computing(8000)).n_gpu_layers == 31
    shared = place(LOAD, computing(8000, 4000))
    assert shared.n_gpu_layers == 31
    assert shared.tensor_split[0] > shared.tensor_split[1] > 0


def test_a_part_where_not_all_fit() -> None:
    """Some layers stay with the host."""
    assert 0 < place(LOAD, computing(700)).n_gpu_layers < 31


def test_no_layer_fits() -> None:
    """With `auto` the processor computes and that is told; with `cuda` there is no load."""
    placing = place(LOAD, computing(500))
    assert placing.on_host
    assert placing.computing.fallback == devices.NO_ROOM
    with pytest.raises(LoadError) as raised:
        place(msgspec.structs.replace(LOAD, device="cuda"), computing(500))
    assert raised.value.code == devices.NO_ROOM


def test_a_number_of_layers_that_does_not_fit() -> None:
    """What was asked for is not made smaller: it is refused with numbers."""
    with pytest.raises(LoadError) as raised:
        place(msgspec.structs.replace(LOAD, n_gpu_layers=31), computing(700))

    assert raised.value.code == fits.DOES_NOT_FIT
    assert "CUDA0" in str(raised.value)
    assert "n_gpu_layers = -1" in str(raised.value)


def test_check_says_what_is_missing() -> None:
    """Numbers of the host, and what would change it."""
    with pytest.raises(Unavailable) as raised:
        fits.check(LOAD, Machine(350 * MIB))

    assert raised.value.code == "model_does_not_fit"
    assert "on the host it needs" in raised.value.message
    assert "engine.n_ctx = " in raised.value.hint


def test_file_that_is_no_model(tmp_path: Path) -> None:
    """Nothing is reckoned of it: its worker will say what is wrong."""
    path = tmp_path / "x"
    path.write_bytes(b"GGUF")

    assert fits.check(msgspec.structs.replace(LOAD, path=str(path)), Machine(0)) is None
    assert fits.check(msgspec.structs.replace(LOAD, path=str(tmp_path / "gone")), Machine(0)) is None
