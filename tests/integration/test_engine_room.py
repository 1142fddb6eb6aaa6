"""What the engine gives through the whole appliance: schemas, declared prefixes, figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance import config
from appliance.catalog import Catalog
from appliance.commands import CreateKey
from appliance.core import Role
from appliance.engine.messages import LoadModel, Tuning
from appliance.engine.tunings import Tunings
from appliance.engine.worker.llama import LlamaBackend, LoadError
from appliance.terms import Terms
from tests.harness import appliance as program
from tests.harness import gateway, question, wait_until
from tests.homes import make_home
from tests.records import assert_verified

SYSTEM = "You are the clerk of the office at the lake. " * 6
SHARED = f"""
[engine]
shared_prefixes = [{{ name = "lake", system = "{SYSTEM}" }}]
"""
SCHEMA = {
    "type": "object",
    "properties": {"open": {"type": "boolean"}},
    "required": ["open"],
    "additionalProperties": False,
}


def shaped(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


@pytest.mark.integration
def test_answers_by_schema_and_refused_schemas(tmp_path: Path) -> None:
    """`response_format` is kept to, streamed or not; a schema that can not be is a 400 on the record."""
    with gateway(tmp_path / "home") as running, running.client() as client:
        whole = running.chat("echo: certainly not JSON", response_format=shaped(SCHEMA))
        plain = running.chat('echo: {"a": 1}', response_format={"type": "json_object"})
        refused = running.chat("hello", response_format=shaped({"type": "strin"}))
        body = question("hello", response_format=shaped(SCHEMA), stream=True)
        streamed = client.post("/v1/chat/completions", json=body)
    assert set(json.loads(whole.json()["choices"][0]["message"]["content"])) == {"open"}
    assert plain.json()["choices"][0]["message"]["content"] == '{"a": 1}'
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "unsupported_schema"
    assert "[DONE]" in streamed.text
    assert_verified(running.home)


@pytest.mark.integration
def test_declared_prefixes_serve_every_key(tmp_path: Path) -> None:
    """The first question of each key finds the declared system prompt computed, and says so."""
    with gateway(tmp_path / "home", toml=SHARED) as running:
        second = running.command(CreateKey(name="second", role=Role.KIOSK))["token"]
        body = question("echo: hello")
        body["messages"].insert(0, {"role": "system", "content": SYSTEM})
        cached = []
        for token in (running.key(), second):
            with running.client(None, headers={"authorization": f"Bearer {token}"}) as client:
                usage = client.post("/v1/chat/completions", json=body).json()["usage"]
            cached.append(usage["prompt_tokens_details"]["cached_tokens"])

    assert cached[0] == cached[1] > len(SYSTEM)


@pytest.mark.integration
def test_keys_of_one_profile_share_what_was_computed(tmp_path: Path) -> None:
    """The second key of a profile finds the first one's prompt; a key beside them does not."""
    with gateway(tmp_path / "home") as running:
        profile = Terms(prefix_profile="lobby")
        tokens = [running.key(terms=profile), running.key(), running.key(terms=profile)]
        body = question("echo: hello")
        body["messages"].insert(0, {"role": "system", "content": SYSTEM})
        cached = []
        for token in tokens:
            with running.client(None, headers={"authorization": f"Bearer {token}"}) as client:
                usage = client.post("/v1/chat/completions", json=body).json()["usage"]
            cached.append(usage["prompt_tokens_details"]["cached_tokens"])

    assert cached[:2] == [0, 0]
    assert cached[2] > len(SYSTEM)


@pytest.mark.integration
def test_figures_that_people_can_see(tmp_path: Path) -> None:
    """`/metrics` tells of steps, first tokens, gaps, cells and guesses; the model's page its capacity."""
    with gateway(tmp_path / "home") as running, running.client(Role.OPERATOR) as operator:
        running.chat("say 30 tokens")

        def text() -> str:
            return operator.get("/metrics").text

        wait_until(lambda: "appliance_step_seconds_count" in text())
        metrics = text()
        with running.client() as client:
            page = client.get("/v1/models/default").json()
    for name in (
        "appliance_step_seconds_bucket",
        "appliance_time_to_first_token_seconds_count",
        "appliance_inter_token_seconds_bucket",
        'appliance_cells{holder="spilled"',
        'appliance_cells{holder="free"',
        'appliance_worker_tokens_total{kind="accepted"',
        'appliance_sequences{model="smollm2-135m-instruct",state="waiting"}',
        "appliance_model_restarts",
    ):
        assert name in metrics, name
    assert page["capacity"]["sequences"] == 16
    assert page["capacity"]["cells"] == 16384
    assert page["capacity"]["shares_prefixes"] is True


@pytest.mark.model
def test_too_little_memory_is_an_error_with_numbers(starter_model_path: Path) -> None:
    """A context that can not fit is refused before the library allocates, and says what would fit."""
    load = LoadModel(
        "starter",
        str(starter_model_path),
        2**30,
        8,
        256,
        0,
        0,
        0,
        32,
        150_000,
        0,
        tuning=Tuning(flash_attn=True, n_threads=1, n_threads_batch=1),
    )
    with pytest.raises(LoadError, match=r"needs \d+ MiB .* \d+ MiB are free; engine.n_ctx = \d+ would fit"):
        LlamaBackend(load)


@pytest.mark.model
def test_measured_settings_are_kept_and_used(tmp_path: Path) -> None:
    """`bench --tune` prints what it measured and keeps the choice; while a gateway runs it refuses."""
    home = make_home(tmp_path / "home")
    spec = Catalog.load(home=home, default_model=config.load(home).default_model).resolve("default")
    assert spec is not None
    store = Tunings(home.tuning, n_gpu_layers=-1)
    assert store.find(spec) is None
    result = json.loads(program("bench", "--tune", "--json", home=home).stdout)
    kept = store.find(spec)

    assert kept is not None
    assert result["best"] == result["in_use"]
    assert result["best"]["flash_attn"] is kept.flash_attn
    assert {trial["tuning"]["flash_attn"] for trial in result["trials"]} == {True, False}
    assert all(trial["decode_1"] >= 0 for trial in result["trials"])
    store.path(spec).write_text("{ damaged")
    assert store.find(spec) is None
    with gateway(tmp_path / "other") as running:
        refused = program("bench", home=running.home, check=False)
    assert refused.returncode != 0
    assert "running" in refused.stderr
