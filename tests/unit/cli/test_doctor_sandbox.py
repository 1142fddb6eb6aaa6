"""The doctor's line about the workers' sandbox."""

from __future__ import annotations

import msgspec
import pytest

from appliance.cli.doctor_sandbox import Layers, judge, look
from appliance.engine_settings import Engine


@pytest.mark.parametrize(
    ("layers", "sandbox", "words", "can_load"),
    [
        (Layers(7, seccomp=True), "required", "landlock_7 seccomp", True),
        (Layers(0, seccomp=True), "available", "no Landlock", True),
        (Layers(0, seccomp=True), "required", "no Landlock", False),
        (Layers(2, seccomp=False), "required", "no seccomp", False),
        (Layers(0, seccomp=False), "available", "no Landlock and no seccomp", True),
    ],
)
def test_missing_layers_are_told(layers: Layers, sandbox: str, words: str, *, can_load: bool) -> None:
    """Each by its name, with what it needs; red only where it is required."""
    says, hint, loads = judge(layers, msgspec.structs.replace(Engine(), sandbox=sandbox))

    assert words in says
    assert loads is can_load
    assert bool(hint) is ("no " in words)


def test_a_gpu_has_the_open_list() -> None:
    """It is named as what it is."""
    says, _, _ = judge(Layers(7, seccomp=True, gpu=True), Engine())
    assert says.endswith("seccomp_gpu")


def test_this_host_is_asked() -> None:
    """The kernel's own answers, by calls that change nothing."""
    assert look(Engine()) == look(Engine())
