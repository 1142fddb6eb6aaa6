"""`appliance model bench`: figures of a real model on this machine, as a table, as JSON, and drawn."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from appliance.cli import program as everything
from appliance.config import Home
from tests import records
from tests.harness import gateway, keep_tuning
from tests.homes import make_home

SIZES = ("--streams", "1", "--streams", "2", "--prompt-tokens", "48", "--answer-tokens", "16")
SVG = "{http://www.w3.org/2000/svg}"


def run(home: Home, *options: str) -> Result:
    arguments = ["model", "bench", *options, "--home", str(home.root)]
    return CliRunner().invoke(everything, arguments, catch_exceptions=False)


@pytest.mark.model
def test_a_model_is_measured(tmp_path: Path) -> None:
    """Speeds, loading and memory are told and drawn; nobody's question was asked, so nothing is recorded."""
    home, plot = make_home(tmp_path / "home"), tmp_path / "speed.svg"
    keep_tuning(home)
    done = run(home, "default", "smollm2-135m-instruct", *SIZES, "--plot", str(plot), "--json")
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)["models"]

    assert (found["model"], found["quantization"]) == ("smollm2-135m-instruct", "Q4_1")
    assert found["prefill_tokens_per_second"] > 1
    assert list(found["decode_tokens_per_second"]) == ["1", "2"]
    assert all(each > 1 for each in found["decode_tokens_per_second"].values())
    assert 0 < found["first_token_seconds"] < 60
    assert found["load_seconds"] > 0
    assert found["prompt_tokens"] == 48
    assert found["resident_bytes"] > 50 << 20
    drawn = ET.parse(plot).getroot()  # noqa: S314 - our own
    assert drawn.tag == f"{SVG}svg"
    assert len(list(drawn.iter(f"{SVG}rect"))) == 6  # a bar of each figure
    assert "reading a prompt, tokens per second" in {each.text for each in drawn.iter(f"{SVG}text")}
    assert records.openings(home) == []


@pytest.mark.integration
def test_nothing_is_measured_beside_a_gateway_unless_told(tmp_path: Path) -> None:
    """Two workers on the same cores measure each other."""
    with gateway(tmp_path / "home") as running:
        arguments = ["model", "bench", "--home", str(running.home.root)]
        done = CliRunner().invoke(everything, arguments)

    assert "the gateway is running" in str(done.exception)
