"""Aliases with adapters through the whole appliance: who answered, what the record says, what is replayed."""

from __future__ import annotations

import functools
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from appliance.cli import program as everything
from appliance.replay import replay
from tests import laid, weights
from tests.harness import Gateway, appliance, keep_tuning, question
from tests.homes import make_home
from tests.records import assert_verified, openings
from tests.starter import starter_model

ALIASES = {"kiosk": ("formal", 1000), "half": ("formal", 500), "desk": ("plain", 1000)}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, dict[str, str]]]:
    root = tmp_path_factory.mktemp("laid")
    home = make_home(root / "home")
    files = {
        name: weights.adapter(root / name, starter_model(), seed=seed, endings=("blk.0.attn_v.weight",))
        for seed, name in enumerate(("formal", "plain"))
    }
    digests = laid.lay(home, files, ALIASES)
    started = Gateway(home=home, worker="fake").start()
    yield started, digests
    if started.process is not None and started.process.poll() is None:
        started.stop()


def asked(running: Gateway, model: str, text: str = "which adapter", **options: Any) -> tuple[str, str]:
    """The answer, and the request's id."""
    with running.client() as client:
        answer = client.post("/v1/chat/completions", json=question(text, **options) | {"model": model})
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"], answer.headers["x-request-id"]


@pytest.mark.integration
def test_each_alias_has_its_adapter(running: tuple[Gateway, dict[str, str]]) -> None:
    """The same adapter at two strengths, another one and none: the worker computes under what was asked for,
    and each opening names its digest and strength; of the model alone it says nothing.
    """
    gateway, digests = running
    found = {name: asked(gateway, name) for name in (*ALIASES, "default")}
    said = {name: answer for name, (answer, _) in found.items()}
    recorded = {each.request_id: each.public for each in openings(gateway.home)}

    assert said["default"] == "none"
    for name, (adapter, thousandths) in ALIASES.items():
        assert said[name] == f"{adapter}@{digests[adapter][:16]}*{thousandths / 1000:g}"
        public = recorded[found[name][1]]
        assert (public["adapter"], public["adapter_sha256"]) == (adapter, digests[adapter])
        assert public["adapter_thousandths"] == thousandths
        assert public["model_sha256"] == recorded[found["default"][1]]["model_sha256"]
    assert not [name for name in recorded[found["default"][1]] if name.startswith("adapter")]
    assert_verified(gateway.home)


@pytest.mark.integration
def test_replay_lays_the_recorded_adapter(
    running: tuple[Gateway, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reproducible answer is computed again under the same adapter, at the same strength."""
    gateway, _ = running
    said, request_id = asked(gateway, "half", reproducible=True)
    worker = [sys.executable, "-m", "tests.fakes.fake_worker"]
    monkeypatch.setattr("appliance.cli.replay.run_replay", functools.partial(replay, command=worker))
    arguments = ["audit", "replay", request_id, "--home", str(gateway.home.root), "--json"]
    done = CliRunner().invoke(everything, arguments, catch_exceptions=False)

    assert said.endswith("*0.5")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["identical"]


@pytest.mark.integration
def test_an_adapter_comes_to_a_model_that_answers(running: tuple[Gateway, dict[str, str]]) -> None:
    """A strength that the worker was not loaded with is activated while others are answered: none fails, and
    the next question by that name has it.
    """
    gateway, digests = running
    over = threading.Event()
    answers: list[str] = []

    def ask_on() -> None:
        while not over.is_set():
            answers.append(asked(gateway, "kiosk")[0])

    asking = threading.Thread(target=ask_on)
    asking.start()
    try:
        model = (
            "smollm2-135m-instruct",
            "--alias",
            "loud",
            "--adapter",
            "plain",
            "--scale",
            "2",
            "--allow-gap",
        )
        appliance("model", "activate", *model, "--why", "a test", home=gateway.home)
        said, _ = asked(gateway, "loud")
    finally:
        over.set()
        asking.join()

    assert said == f"plain@{digests['plain'][:16]}*2"
    assert set(answers) == {f"formal@{digests['formal'][:16]}*1"}


@pytest.mark.model
@pytest.mark.timeout(300)
def test_real_adapters_behind_the_seal(tmp_path: Path, starter_model_path: Path) -> None:
    """The sandboxed worker reads the files of adapters, its answers are replayed bit by bit; a file that was
    altered since is refused when the model is loaded.
    """
    home = make_home(tmp_path / "home", toml="[engine]\nn_ctx = 2048\nsandbox = 'required'\n")
    keep_tuning(home)
    file = weights.adapter(tmp_path / "formal.gguf", starter_model_path, seed=5)
    digests = laid.lay(home, {"formal": file}, {"kiosk": ("formal", 1000)})
    gateway = Gateway(home=home, worker="model").start()
    try:
        options: dict[str, Any] = {"max_tokens": 8, "reproducible": True, "seed": 1, "temperature": 0}
        plain, _ = asked(gateway, "default", "Name a colour.", **options)
        other, request_id = asked(gateway, "kiosk", "Name a colour.", **options)
        again, _ = asked(gateway, "default", "Name a colour.", **options)
    finally:
        gateway.stop()
    replayed = appliance("audit", "replay", request_id, "--json", home=home)
    (public,) = [each.public for each in openings(home) if each.request_id == request_id]
    kept = home.models / "sha256" / digests["formal"][:2] / digests["formal"]
    kept.chmod(0o644)
    kept.write_bytes(kept.read_bytes()[:-4] + b"\0\0\0\1")
    refused = appliance("audit", "replay", request_id, home=home, check=False)

    assert plain == again != other
    assert json.loads(replayed.stdout)["identical"]
    assert public["adapter_sha256"] == digests["formal"]
    assert refused.returncode != 0
    assert "formal: the file's sha256 is not the pinned one" in refused.stderr
