"""Where backends lie, and when a GPU's is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.engine import devices


@pytest.mark.parametrize(
    ("device", "n_gpu_layers", "asks"),
    [("auto", -1, True), ("auto", 8, True), ("auto", 0, False), ("cuda", -1, True), ("cpu", -1, False)],
)
def test_a_gpu_is_asked_for_unless_it_is_ruled_out(device: str, n_gpu_layers: int, *, asks: bool) -> None:
    """By the device, or by no layers."""
    assert devices.asks_gpu(device, n_gpu_layers) is asks


def test_libraries_are_found_in_their_own_folders_alone(tmp_path: Path) -> None:
    """The backend beside llama.cpp's libraries; what it computes with beside it or among NVIDIA's wheels, in
    the order in which they need each other, and each once.
    """
    place = tmp_path / "llama_cpp" / "lib"
    wheels = tmp_path / "nvidia" / "cu13" / "lib"
    for folder in (place, wheels):
        folder.mkdir(parents=True)
    assert devices.gpu_library(place) is None
    assert devices.runtime_libraries(place) == []

    (place / "libggml-cuda.so").touch()
    (place / "libcudart.so.13").touch()
    for name in ("libcublas.so.13", "libcublasLt.so.13", "libcudart.so.13", "libcublas.so.12"):
        (wheels / name).touch()

    assert devices.gpu_library(place) == place / "libggml-cuda.so"
    assert devices.runtime_libraries(place) == [
        place / "libcudart.so.13",
        wheels / "libcublasLt.so.13",
        wheels / "libcublas.so.13",
    ]


def test_every_reason_has_its_advice() -> None:
    """Whoever reads a code can do something about it."""
    assert set(devices.HINTS) == {
        devices.NOT_INSTALLED,
        devices.NOT_LOADABLE,
        devices.NO_DEVICE,
        devices.NO_ROOM,
    }
    assert all("engine.device" in hint for hint in devices.HINTS.values())
