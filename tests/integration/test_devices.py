"""What computes: each variant for the processor, the best one, and a GPU that is not there. Real workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance import readiness
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.clock import SystemClock
from appliance.core import ModelSpec, Role
from appliance.engine.events import EngineEvent, ModelFailed
from appliance.engine.messages import LoadFailed, Ready, Trial, Tuning
from appliance.engine.supervisor import Engine
from appliance.engine.worker.llama import LlamaBackend, library, tune
from appliance.engine_settings import Engine as EngineSettings
from tests import computing, synthetic
from tests.harness import Gateway, keep_tuning
from tests.homes import make_home
from tests.records import place

pytestmark = pytest.mark.model

Installed = Callable[[str], Path]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The Python of an installation with a GPU backend of this source; made once for each."""
    made: dict[str, Path] = {}

    def get(source: str) -> Path:
        if source not in made:
            folder = tmp_path_factory.mktemp("installed")
            made[source] = computing.installation(folder / "venv", computing.compiled(folder, source))
        return made[source]

    return get


@pytest.mark.timeout(300)
def test_every_variant_that_this_processor_runs_answers_alike(starter_model_path: Path) -> None:
    """The same words from a worker process with each variant, which it names; the baseline is among them."""
    runs = [name for name, score in computing.scores().items() if score > 0]
    answers: dict[str, str] = {}
    for name in runs:
        load = computing.load_of(starter_model_path, cpu_variant=name)
        with computing.worker(load) as (channel, said):
            assert isinstance(said, Ready)
            assert said.backend == f"CPU+ggml-cpu-{name}"
            answers[name] = computing.answer(channel)

    assert "x64" in runs
    assert len(set(answers.values())) == 1, answers
    assert len(answers["x64"].split()) > 3


def test_the_best_variant_is_chosen_by_ggmls_own_score(starter_model_path: Path) -> None:
    """Nobody names one: the worker takes the one whose library says most of itself."""
    scores = computing.scores()
    with computing.worker(computing.load_of(starter_model_path)) as (_, said):
        assert isinstance(said, Ready)
        assert said.backend == f"CPU+ggml-cpu-{max(scores, key=lambda name: scores[name])}"
        assert said.fallback is None


def test_a_tuning_of_another_backend_is_measured_anew(
    starter_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured on another device or variant says nothing about this one; the new one is named."""
    measured = []

    def measure(*_: object, **__: object) -> tuple[Tuning, tuple[Trial, ...]]:
        measured.append(1)
        return computing.TUNING, ()

    monkeypatch.setattr(tune, "measure", measure)
    own = library.init_library(n_gpu_layers=0).label
    for told, times in (("", 0), (own, 0), (f"CUDA0 (a card)+{own}", 1)):
        load = computing.load_of(starter_model_path, n_gpu_layers=0, tuning=computing.tuning_of(told))
        backend = LlamaBackend(load)
        backend.close()
        assert len(measured) == times
    assert backend.tuning == computing.tuning_of(own)


def test_a_model_of_noise_is_a_model(tmp_path: Path) -> None:
    """What the figures on a GPU are measured with (tests/gpu), in a small shape: it loads and writes."""
    model = synthetic.make(tmp_path / "noise.gguf", synthetic.TINY)
    with computing.worker(computing.load_of(model)) as (channel, said):
        assert isinstance(said, Ready)
        assert said.n_vocab == synthetic.TINY.vocabulary
        assert computing.answer(channel)


@pytest.mark.parametrize("name", ["no_such_variant", "another_processors"])
def test_a_variant_that_can_not_run_here_is_no_start(name: str, starter_model_path: Path) -> None:
    """The code says what is wrong, and the words which ones would run."""
    if name == "another_processors":
        others = [each for each, score in computing.scores().items() if score == 0]
        if not others:
            pytest.skip("this processor runs every variant")
        name = others[0]
    with computing.worker(computing.load_of(starter_model_path, cpu_variant=name)) as (_, said):
        assert isinstance(said, LoadFailed)
        assert said.code == "cpu_variant"
        assert name in said.message
        assert "x64" in said.message


def test_without_a_gpu_backend_cuda_is_an_error(starter_model_path: Path) -> None:
    """What is asked for and not installed is no start, with what to do; automatic is none the worse."""
    with computing.worker(computing.load_of(starter_model_path, device="cuda")) as (_, said):
        assert isinstance(said, LoadFailed)
        assert said.code == "gpu_backend_missing"
        assert "engine.device = 'auto'" in said.message


async def test_a_gateway_hears_why_nothing_is_loaded(starter_model_path: Path) -> None:
    """The worker's code is the trouble that stops the appliance, with its advice, and the record's event."""
    events: list[EngineEvent] = []
    spec = ModelSpec(id="starter", sha256="0" * 64, size_bytes=1, path=starter_model_path)
    engine = Engine(spec, EngineSettings(device="cuda"), clock=SystemClock(), on_event=events.append)
    await engine.start()
    try:
        assert not await engine.wait_ready(60)
        trouble = readiness.worker(engine.status)
        async with asyncio.timeout(30):  # told once the worker is gone
            while not events:
                await asyncio.sleep(0.02)
    finally:
        await engine.stop()

    assert trouble is not None
    assert (trouble.code, trouble.stops) == ("gpu_backend_missing", True)
    assert "engine.device = 'auto'" in trouble.hint
    assert events[0] == ModelFailed(spec, "gpu_backend_missing")


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        (computing.NEEDS_DRIVER, "gpu_backend_unloadable", "libcuda.so.1"),
        (computing.FINDS_NO_GPU, "gpu_not_found", "finds no GPU"),
    ],
    ids=["no driver", "no device"],
)
def test_a_gpu_that_does_not_answer_is_no_silent_fallback(
    source: str, code: str, words: str, installed: Installed, starter_model_path: Path
) -> None:
    """Where a GPU must compute nothing is loaded; where one may, the processor answers and it is told; where
    none may, its backend is not even looked at. The whole sandbox holds in both.
    """
    python = installed(source)
    said: dict[str, Ready | LoadFailed] = {}
    answers = {}
    for device in ("cuda", "auto", "cpu"):
        load = computing.load_of(starter_model_path, device=device)
        with computing.worker(load, python=python) as (channel, found):
            said[device] = found
            if isinstance(found, Ready):
                answers[device] = computing.answer(channel)

    refused, fallen, plain = said["cuda"], said["auto"], said["cpu"]
    assert isinstance(refused, LoadFailed)
    assert refused.code == code
    assert words in refused.message
    assert "engine.device = 'cpu'" in refused.message
    assert isinstance(fallen, Ready)
    assert fallen.fallback == code
    assert words in fallen.fallback_says
    assert isinstance(plain, Ready)
    assert (plain.fallback, plain.fallback_says) == (None, "")
    assert fallen.backend == plain.backend
    assert fallen.sandbox == plain.sandbox
    assert "seccomp" in plain.sandbox
    assert answers["auto"] == answers["cpu"] != ""


def test_the_fallback_stands_wherever_somebody_looks(tmp_path: Path, installed: Installed) -> None:
    """Record, /readyz, metrics and doctor say that no GPU computes; requests are answered."""
    python = installed(computing.NEEDS_DRIVER)
    home = make_home(tmp_path / "home", toml="[audit]\norigin = 'test/devices/1'\n[engine]\nn_ctx = 1024\n")
    keep_tuning(home)
    serve = [str(python), "-m", "appliance", "serve", "--port", "0", "--console-port", "0"]
    running = Gateway(home=home, worker="model", program=serve)
    try:
        running.start()
        assert running.chat("Name a colour.", max_tokens=4).status_code == 200
        with running.client(Role.OPERATOR) as operator:
            readyz = operator.get("/readyz")
            metrics = operator.get("/metrics").text
        (record,) = query.search(place(home), kind=Kind.MODEL_LOADED)
        told = json.loads(computing.program(python, "doctor", "--json", "--home", str(home.root)).stdout)
    finally:
        if running.process is not None and running.process.poll() is None:
            running.stop()

    assert readyz.status_code == 200
    [trouble] = [each for each in readyz.json()["troubles"] if each["code"] == "gpu_not_used"]
    assert not trouble["stops"]
    assert "libcuda.so.1" in trouble["says"]
    assert "engine.device = 'cpu'" in trouble["hint"]
    [model] = readyz.json()["models"].values()
    assert f'backend="{model["backend"]}"' in metrics
    assert model["backend"].startswith("CPU+ggml-cpu-")
    loaded = record.public
    assert (loaded["fallback"], loaded["backend"]) == ("gpu_backend_unloadable", model["backend"])
    checks = {each["name"]: each for each in told["checks"]}
    assert checks["devices"]["level"] == "warn"
    assert "no NVIDIA driver runs" in checks["devices"]["says"]
    assert checks["gpu_not_used"]["level"] == "warn"
