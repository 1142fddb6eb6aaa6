"""Nothing here runs without a GPU, its driver and the CUDA backend; the reason says which is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.engine import devices
from tests import synthetic

_DRIVER = Path("/proc/driver/nvidia/version")


def missing() -> str:
    """Why no test of a GPU can run here; empty where they can."""
    if not _DRIVER.is_file():
        return "no NVIDIA driver runs on this machine"
    if not list(Path("/dev").glob("nvidia[0-9]*")):
        return "the driver runs, and there is no GPU (/dev/nvidia0)"
    if devices.gpu_library() is None:
        return "the CUDA backend is not built: make cuda"
    return ""


@pytest.fixture(scope="session", autouse=True)
def _gpu() -> None:
    if reason := missing():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the shape of one with eight billion weights, 4.6 GB of noise."""
    return synthetic.make(tmp_path_factory.mktemp("models") / "noise-8b.gguf", synthetic.EIGHT_BILLION)
