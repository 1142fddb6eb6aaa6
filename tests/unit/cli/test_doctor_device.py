"""The doctor's line about what will compute."""

from __future__ import annotations

import msgspec
import pytest

from appliance.cli.doctor_device import Seen, judge, look
from appliance.engine_settings import Engine

VARIANTS = ("haswell", "x64")
PLAIN = Seen(has_gpu_library=False, has_driver=False, num_gpus=0, variants=VARIANTS)
NO_DRIVER = Seen(has_gpu_library=True, has_driver=False, num_gpus=0, variants=VARIANTS)
NO_DEVICE = Seen(has_gpu_library=True, has_driver=True, num_gpus=0, variants=VARIANTS)
WHOLE = Seen(has_gpu_library=True, has_driver=True, num_gpus=2, variants=VARIANTS)


@pytest.mark.parametrize(
    ("seen", "device", "words", "level"),
    [
        (PLAIN, "auto", "the processor computes", "ok"),
        (PLAIN, "cpu", "engine.device is 'cpu'", "ok"),
        (PLAIN, "cuda", "llama.cpp has no CUDA backend here", "fail"),
        (NO_DRIVER, "auto", "no NVIDIA driver runs: the processor computes", "warn"),
        (NO_DRIVER, "cuda", "no NVIDIA driver runs: no model is loaded", "fail"),
        (NO_DRIVER, "cpu", "engine.device is 'cpu'", "ok"),
        (NO_DEVICE, "auto", "there is no /dev/nvidia0: the processor computes", "warn"),
        (NO_DEVICE, "cuda", "there is no /dev/nvidia0: no model is loaded", "fail"),
        (WHOLE, "auto", "a GPU computes: 2 there", "ok"),
        (WHOLE, "cuda", "a GPU computes: 2 there", "ok"),
        (WHOLE, "cpu", "engine.device is 'cpu'", "ok"),
    ],
)
def test_what_will_compute_is_told(seen: Seen, device: str, words: str, level: str) -> None:
    """What is missing is named, with what to do; it is red only where a GPU must compute."""
    says, hint, can_load = judge(seen, msgspec.structs.replace(Engine(), device=device))

    assert words in says
    assert ("fail" if not can_load else "warn" if hint else "ok") == level


def test_no_layers_are_no_gpu() -> None:
    """Zero layers leave the GPU alone, whatever is there."""
    says, hint, can_load = judge(WHOLE, msgspec.structs.replace(Engine(), n_gpu_layers=0))

    assert ("n_gpu_layers is 0" in says, hint, can_load) == (True, "", True)


def test_a_variant_that_there_is_not_is_red() -> None:
    """The line names those that there are; one of them is named where it is pinned."""
    says, hint, can_load = judge(PLAIN, msgspec.structs.replace(Engine(), cpu_variant="pentium"))
    assert ("'pentium'" in says, "haswell, x64" in hint, can_load) == (True, True, False)

    says, hint, can_load = judge(PLAIN, msgspec.structs.replace(Engine(), cpu_variant="haswell"))
    assert ("variant haswell" in says, hint, can_load) == (True, "", True)


def test_this_host_has_the_portable_build() -> None:
    """The baseline, which runs anywhere, is among the variants of the installed llama.cpp."""
    assert "x64" in look().variants
