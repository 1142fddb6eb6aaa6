"""LoRA files over the starter model itself: each answer is that of its adapter alone, and no file aborts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.engine.messages import AdapterFile, Finished, Generate, LoadModel, Setup, Tuning
from appliance.engine.question import Turn
from appliance.engine.worker.llama import LlamaBackend, LoadError
from appliance.engine.worker.llama.adapters import Adapters
from appliance.engine.worker.sequence import Sequence
from tests import weights
from tests.integration.real import GREEDY, QUESTIONS, Bench

pytestmark = [pytest.mark.model, pytest.mark.timeout(400)]

SHORT = msgspec.structs.replace(GREEDY, max_tokens=6)
NAMES = ("", "first", "second", "weak")
SURE = 8  # characters of an answer that rounding does not change here


def load_of(path: Path, *adapters: AdapterFile, **changes: Any) -> LoadModel:
    load = LoadModel(
        "starter", str(path), 1024, 6, 48, 1, 1, 0, 32, 150_000, 0,
        tuning=Tuning(flash_attn=True, n_threads=1, n_threads_batch=1), adapters=adapters,
    )  # fmt: skip
    return msgspec.structs.replace(load, **changes)


@pytest.fixture(scope="module")
def files(starter_model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return {
        name: weights.adapter(folder / f"{name}.gguf", starter_model_path, seed=seed)
        for seed, name in enumerate(["first", "second"])
    }


@pytest.fixture(scope="module")
def backend(starter_model_path: Path, files: dict[str, Path]) -> Iterator[LlamaBackend]:
    adapters = [AdapterFile(name, str(path), 1.0) for name, path in files.items()]
    adapters.append(AdapterFile("weak", str(files["first"]), 0.6))
    made = LlamaBackend(load_of(starter_model_path, *adapters))
    yield made
    made.close()


def ask(bench: Bench, adapter: str, text: str, *, setup: Setup | None = None, system: str = "") -> None:
    turns = (*((Turn("system", system),) if system else ()), Turn("user", text))
    question = Generate(f"{adapter}: {text}", turns, SHORT, "desk", setup=setup, adapter=adapter)
    prepared = bench.preparer.prepare(question)
    assert isinstance(prepared, Sequence)
    bench.core.add(prepared)


def trace_of(bench: Bench, request_id: str) -> tuple[tuple[int, ...], bytes]:
    (end,) = [each for each in bench.said if isinstance(each, Finished) and each.request_id == request_id]
    return end.tokens, end.digests


def test_everybody_at_once_gets_what_each_gets_alone(backend: LlamaBackend) -> None:
    """Base, two adapters and one at a part of its strength, two questions each and all together: the
    answers begin as those of one after the other. Later they may part at near ties, as any neighbour's
    cells let them (engine/DESIGN.md); bit by bit they are compared below.
    """
    together = Bench(backend, prefix_cache_cells=256, speculation=False)
    for text in QUESTIONS[:2]:
        for name in NAMES:
            ask(together, name, text)
    found = together.answers()
    alone: dict[str, str] = {}
    for name in NAMES:
        bench = Bench(backend, speculation=False)
        for text in QUESTIONS[:2]:
            ask(bench, name, text)
            alone |= bench.answers()

    assert {name: text[:SURE] for name, text in found.items()} == {
        name: text[:SURE] for name, text in alone.items()
    }
    said = {name: tuple(found[f"{name}: {text}"][:SURE] for text in QUESTIONS[:2]) for name in NAMES}
    assert len(set(said.values())) == len(NAMES)


def test_reproducible_answers_are_those_of_a_worker_with_this_adapter_alone(
    backend: LlamaBackend, starter_model_path: Path, files: dict[str, Path]
) -> None:
    """Bit by bit: tokens and logits, whatever was computed before and besides under other adapters."""
    mixed = Bench(backend)
    ask(mixed, "second", QUESTIONS[1])
    for name in NAMES:
        ask(mixed, name, QUESTIONS[0], setup=backend.setup)
    mixed.answers()
    only = LlamaBackend(load_of(starter_model_path, AdapterFile("first", str(files["first"]), 1.0)))
    try:
        bench = Bench(only)
        for name in ("", "first"):
            ask(bench, name, QUESTIONS[0], setup=backend.setup)
        bench.answers()
        traces = {name: trace_of(bench, f"{name}: {QUESTIONS[0]}") for name in ("", "first")}
    finally:
        only.close()

    for name, trace in traces.items():
        assert trace_of(mixed, f"{name}: {QUESTIONS[0]}") == trace
    assert len({trace_of(mixed, f"{name}: {QUESTIONS[0]}") for name in NAMES}) == len(NAMES)


def test_prefixes_stay_with_their_adapter(backend: LlamaBackend) -> None:
    """What was read under one adapter is read again under another, and not under its own."""
    system = "You answer for the town hall. Be brief, and name the office that is responsible for it. " * 2
    bench = Bench(backend, prefix_cache_cells=512)
    for number, name in enumerate(["first", "", "second", "first"]):
        ask(bench, name, QUESTIONS[number], system=system)
        bench.answers()
    cached = [each.cached_tokens for each in bench.said if isinstance(each, Finished)]

    assert cached[:3] == [0, 0, 0]
    assert cached[3] > 30


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"keys": {"general.architecture": "qwen2"}}, "architecture 'qwen2'"),
        ({"keys": {"general.type": "model"}}, "does not say that it is a LoRA adapter"),
        ({"keys": {"adapter.type": "ia3"}}, "does not say that it is a LoRA adapter"),
        ({"keys": {"adapter.lora.alpha": "four"}}, "no finite number"),
        ({"keys": {"adapter.lora.alpha": float("nan")}}, "no finite number"),
        ({"keys": {"adapter.alora.invocation_tokens": [1, 2]}}, "aLoRA"),
        ({"shapes": {"blk.0.attn_q.weight": ((64, 4), (4, 576))}}, "for another model"),
        ({"shapes": {"blk.0.attn_q.weight": ((576, 4), (8, 576))}}, "no rank in common"),
        ({"shapes": {"token_embd.weight": ((4, 49152), (8, 576))}}, "no rank in common"),
        ({"shapes": {"blk.99.attn_q.weight": ((576, 4), (4, 576))}}, "no tensor blk.99.attn_q.weight"),
        ({"shapes": {"blk.0.attn_norm.weight": ((576, 4), (4, 576))}}, "for another model"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_file_that_does_not_fit_is_refused(
    backend: LlamaBackend, starter_model_path: Path, tmp_path: Path, made: dict[str, Any], says: str
) -> None:
    """Wrong base, wrong shapes, wrong kinds of values: words that say so, and the process lives on."""
    path = weights.adapter(tmp_path / "wrong.gguf", starter_model_path, seed=3, **made)
    with pytest.raises(LoadError, match=says):
        Adapters(backend._loaded.pointer, [str(starter_model_path)], [AdapterFile("wrong", str(path), 1.0)])


def test_what_computes_no_numbers_is_refused(starter_model_path: Path, tmp_path: Path) -> None:
    """A file that fits and holds no numbers shows when the model is loaded, not in somebody's answer."""
    path = weights.adapter(tmp_path / "empty.gguf", starter_model_path, seed=3, strength=float("nan"))
    with pytest.raises(LoadError, match="computes no numbers"):
        LlamaBackend(load_of(starter_model_path, AdapterFile("empty", str(path), 1.0)))


def test_cut_and_altered_files_are_refused_or_loaded(
    backend: LlamaBackend, starter_model_path: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    """Cut anywhere it is refused; with bytes of its header changed it is refused or still fits."""
    data = files["first"].read_bytes()
    chance = random.Random(11)
    path = tmp_path / "altered.gguf"
    base = [str(starter_model_path)]
    for size in [*(chance.randrange(len(data)) for _ in range(4)), 0, 3, len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(LoadError):
            Adapters(backend._loaded.pointer, base, [AdapterFile("cut", str(path), 1.0)])
    refused = 0
    for _ in range(24):
        altered = bytearray(data)
        altered[chance.randrange(2000)] ^= 1 << chance.randrange(8)
        path.write_bytes(altered)
        try:
            Adapters(backend._loaded.pointer, base, [AdapterFile("altered", str(path), 1.0)])
        except LoadError:
            refused += 1

    assert refused > 8


@pytest.mark.parametrize("named", ["model-{at:05}-of-{count:05}.gguf", "{at}{at}"])
def test_a_split_model_is_the_whole_one(
    backend: LlamaBackend, starter_model_path: Path, tmp_path: Path, named: str
) -> None:
    """Parts in their order give bit by bit the answers of the one file, whatever the parts are called."""
    parts = [str(each) for each in weights.split(starter_model_path, tmp_path, count=3, named=named)]
    made = LlamaBackend(load_of(Path(parts[0]), parts=tuple(parts)))
    try:
        benches = [Bench(each) for each in (backend, made)]
        for bench in benches:
            ask(bench, "", QUESTIONS[0], setup=backend.setup)
            bench.answers()
        whole, split = (trace_of(bench, f": {QUESTIONS[0]}") for bench in benches)
    finally:
        made.close()

    assert whole == split


def test_parts_that_do_not_belong_together_are_refused(starter_model_path: Path, tmp_path: Path) -> None:
    """A part that is missing, twice there or out of its order: the model is not loaded."""
    one, two, three = (str(each) for each in weights.split(starter_model_path, tmp_path, count=3))
    for parts in ((one, two), (one, three, two), (one, two, two), (two, one, three)):
        with pytest.raises(LoadError):
            LlamaBackend(load_of(Path(parts[0]), parts=parts))
