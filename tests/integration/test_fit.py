"""A model that can not fit is refused with its numbers, before a worker is started, wherever people look."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from appliance.commands import Look
from appliance.core import Role
from tests.harness import PROGRAM, Gateway, gateway, wait_until
from tests.homes import copy_home

HUGE = "[engine]\nn_ctx = 400000000\nmemory_mib = 1000000000\n"


def shown(home: Path, *options: str) -> dict[str, Any]:
    said = subprocess.run(
        [str(PROGRAM), "model", "show", "--json", "--home", str(home), *options],
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def test_refused_before_a_worker_is_started(tmp_path: Path) -> None:
    """/readyz has the code, the numbers and what to do; no worker was there; the log names it, too."""
    running = Gateway(home=copy_home(tmp_path / "home", toml=HUGE))
    try:
        running.start(until="listening on ")
        troubles: list[dict[str, Any]] = []

        def is_told() -> bool:
            troubles[:] = running.command(Look())["troubles"]
            return any(each["code"] == "model_does_not_fit" for each in troubles)

        wait_until(is_told)
        told = next(each for each in troubles if each["code"] == "model_does_not_fit")
        assert told["stops"]
        assert "MiB" in told["says"]
        assert "engine.n_ctx = " in told["says"]
        assert "appliance model show" in told["hint"]
        with running.client(Role.OPERATOR) as client:
            assert client.get("/readyz").status_code == 503
        with pytest.raises(AssertionError):
            assert running.worker_pid
        assert "model_does_not_fit" in running.log_file.read_text()
    finally:
        running.stop()


def test_shown_without_a_gateway(tmp_path: Path) -> None:
    """Facts of the header, the parts in bytes, and what fits; other settings make another plan."""
    home = copy_home(tmp_path / "home")
    found = shown(home.root)
    more = shown(home.root, "--n-ctx", "65536", "--n-seq-max", "4")

    assert (found["architecture"], found["quantization"]) == ("llama", "Q4_1")
    assert found["num_parameters"] == 134_515_008
    assert found["licence"] == "Apache-2.0"
    assert len(found["template_sha256"]) == 64
    assert found["fits"]
    assert found["parts"]["cells"] == 16_384 * 23_040
    assert more["parts"]["cells"] == 65_536 * 23_040
    assert more["loaded_bytes"] > found["loaded_bytes"]
    assert found["measured"] == {}


def test_shown_for_people(tmp_path: Path) -> None:
    """A table of parts and a bar of what is free; what would change it, where it does not fit."""
    home = copy_home(tmp_path / "home")
    command = [str(PROGRAM), "model", "show", "--home", str(home.root)]
    fitting = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    huge = subprocess.run(
        [*command, "--n-ctx", "400000000"], check=True, capture_output=True, text=True
    ).stdout

    assert "it fits" in fitting.splitlines()
    assert "host   [#" in fitting
    assert "it does not fit" in huge.splitlines()
    assert "engine.n_ctx = " in huge
    assert "MiB more memory would do" in huge


@pytest.mark.model
@pytest.mark.timeout(200)
def test_estimate_beside_what_the_worker_holds(tmp_path: Path) -> None:
    """With a loaded model: its buffers, and what the process holds after a question, to five in a hundred."""
    toml = "[engine]\nn_ctx = 4096\nn_batch = 64\nn_threads_batch = 1\n"
    with gateway(tmp_path / "home", worker="model", toml=toml) as running:
        running.wait_ready(seconds=60)
        running.chat("Hello " * 100, max_tokens=4)
        found = shown(running.home.root)
    measured, parts = found["measured"], found["parts"]

    buffers = sum(measured["buffers"].values())
    assert sum(parts[each] for each in ("weights", "cells", "compute", "outputs")) == pytest.approx(
        buffers, rel=0.05
    )
    assert found["loaded_bytes"] == pytest.approx(measured["resident_bytes"], rel=0.05)
