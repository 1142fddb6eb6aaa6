"""Ten models in a budget for three: everybody is answered, by the model that they asked."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from appliance import config
from appliance.alone import open_log_alone
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.catalog import file_digest, store_path
from appliance.config import Home
from appliance.core import ModelSpec, Role
from appliance.engine import memory
from appliance.engine_settings import Engine
from tests import ggufs
from tests.harness import Gateway, gauge_of, wait_until
from tests.homes import make_home
from tests.modelled import alias, imported, put_alias
from tests.verifying import verify

NUM_MODELS, NUM_QUESTIONS, NUM_CLIENTS = 10, 200, 20
ENGINE = "n_ctx = 1024\nn_seq_max = 4\nn_batch = 64\nprefix_cache_cells = 0\nturn_seconds = 2\n"
# By their headers each needs more than a pretended worker really holds.
KEYS = {
    **ggufs.SMALL,
    "llama.context_length": 8192,
    "llama.embedding_length": 8192,
    "llama.attention.head_count": 16,
    "llama.attention.head_count_kv": 16,
}
TENSORS = [ggufs.Weights(f"blk.{layer}.attn_k.weight", (32, 32)) for layer in range(2)]
LIMITS = "[limits.kiosk]\nrequests_per_minute = 0\nconcurrency = 0\n"


def put_models(home: Home) -> list[ModelSpec]:
    """Ten small files in the store, each with its own digest, on the record; `default` is the first one."""
    specs = []
    made = []
    for number in range(NUM_MODELS):
        name = f"small-{number}"
        path = home.models / f"{name}.gguf"
        path.write_bytes(ggufs.make({**KEYS, "general.name": name}, TENSORS).data)
        digest, size = file_digest(path), path.stat().st_size
        at = store_path(home, digest)
        at.parent.mkdir(parents=True, exist_ok=True)
        path.rename(at)
        made.append(imported(name, sha256=digest, size_bytes=size))
        specs.append(ModelSpec(id=name, sha256=digest, size_bytes=size, path=at))

    async def record() -> None:
        with open_log_alone(home, config.load(home)) as alone:
            for each in made:
                await alone.modelling.import_model(each)
            await put_alias(alone, alias("default", made[0]))

    asyncio.run(record())
    return specs


def budget_for(num: int, spec: ModelSpec) -> int:
    """MiB for so many of these, and not for one more."""
    settings: Engine = config.parse(f"[engine]\n{ENGINE}").engine
    return int(memory.needed_by(spec, settings) * (num + 0.5)) >> 20


@pytest.fixture(scope="module")
def specs() -> list[ModelSpec]:
    return []


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, specs: list[ModelSpec]) -> Iterator[Gateway]:
    """A gateway over ten models; its budget holds three."""
    home = make_home(tmp_path_factory.mktemp("fleet") / "home", toml=f"[engine]\n{ENGINE}{LIMITS}")
    specs += put_models(home)
    mib = budget_for(3, specs[0])
    home.config.write_text(f"[engine]\nmemory_mib = {mib}\n{ENGINE}{LIMITS}", encoding="utf-8")
    gateway = Gateway(home=home)
    try:
        yield gateway.start()
    finally:
        gateway.stop()


async def ask(client: httpx.AsyncClient, model: str, number: int, *, stream: bool) -> tuple[str, str]:
    """The request's id and the answer's text."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": f"echo: {model} {number}"}],
        "stream": stream,
    }
    if not stream:
        answer = await client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, (model, answer.text)
        return answer.headers["x-request-id"], answer.json()["choices"][0]["message"]["content"]
    async with client.stream("POST", "/v1/chat/completions", json=body) as streamed:
        if streamed.status_code != 200:
            raise AssertionError((model, await streamed.aread()))
        lines = [line async for line in streamed.aiter_lines() if line.startswith("data: ")]
        assert lines[-1] == "data: [DONE]"
        told = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
        text = "".join(each["choices"][0]["delta"].get("content") or "" for each in told if each["choices"])
        return streamed.headers["x-request-id"], text


async def from_many_clients(running: Gateway, models: list[str]) -> dict[str, str]:
    """Each client asks one question after the other; which model each request asked."""
    headers = {"authorization": f"Bearer {running.key(Role.KIOSK)}"}
    chance = random.Random(9)
    # Some models are asked much more than others, and none never.
    questions = [models[min(chance.randrange(14), 9)] for _ in range(NUM_QUESTIONS - 10)] + models
    chance.shuffle(questions)
    asked: dict[str, str] = {}

    async def one(own: Iterator[tuple[int, str]]) -> None:
        async with httpx.AsyncClient(base_url=running.url, headers=headers, timeout=120) as client:
            for number, model in own:
                request_id, text = await ask(client, model, number, stream=number % 2 == 0)
                assert text == f"{model} {number}"
                asked[request_id] = model

    numbered = list(enumerate(questions))
    await asyncio.gather(*(one(iter(numbered[each::NUM_CLIENTS])) for each in range(NUM_CLIENTS)))
    return asked


def records(home: Home, kind: Kind) -> list[query.Record]:
    return query.search(home.database, kind=kind, limit=1000)


def test_ten_models_in_a_budget_for_three_answer_everybody(running: Gateway, specs: list[ModelSpec]) -> None:
    """200 questions, streamed and whole, of 20 clients: none is lost or cut off; the record names the digest
    that answered each; the budget holds all the while; models came on demand, and went for room.
    """
    models = [each.id for each in specs]
    digests = {each.id: each.sha256 for each in specs}
    asked = asyncio.run(from_many_clients(running, models))

    assert len(asked) == NUM_QUESTIONS
    opened = records(running.home, Kind.REQUEST_OPENED)
    named = {each.request_id: each.public for each in opened}
    for request_id, model in asked.items():
        assert (named[request_id]["model"], named[request_id]["model_sha256"]) == (model, digests[model])
    assert Counter(each.public["outcome"] for each in records(running.home, Kind.REQUEST_CLOSED)) == {
        "stop": NUM_QUESTIONS
    }
    loaded = records(running.home, Kind.MODEL_LOADED)
    unloaded = records(running.home, Kind.MODEL_UNLOADED)
    assert {each.public["model"] for each in loaded} == set(models)
    assert all(each.public["model_sha256"] == digests[str(each.public["model"])] for each in loaded)
    assert Counter(each.public["why"] for each in loaded)["start"] == 1
    assert {each.public["why"] for each in unloaded} == {"room"}
    assert models[0] not in {each.public["model"] for each in unloaded}  # `default` is pinned
    assert not records(running.home, Kind.MODEL_FAILED)
    at_once = most_at_once([*loaded, *unloaded])
    assert at_once == 3
    assert verify(running.home).is_green


def most_at_once(lives: list[query.Record]) -> int:
    """Models in memory at the worst moment, as the record tells it."""
    here = most = 0
    for each in sorted(lives, key=lambda each: each.seq):
        here += 1 if each.kind == Kind.MODEL_LOADED else -1
        most = max(most, here)
    return most


def test_what_is_told_of_models_that_are_not_loaded(running: Gateway, specs: list[ModelSpec]) -> None:
    """Everybody is told that they can be asked; operators, which ones hold how much of the memory."""
    with running.client() as client, running.client(Role.OPERATOR) as operator:
        listed = {each["id"]: each for each in client.get("/v1/models").json()["data"]}
        ready = operator.get("/readyz").json()
        metrics = operator.get("/metrics").text
        unloaded = next(each for each in specs if listed[each.id]["state"] == "unloaded")
        page = client.get(f"/v1/models/{unloaded.id}").json()

    assert {each.id for each in specs} <= set(listed)
    assert (listed["default"]["root"], listed["default"]["pinned"]) == (specs[0].id, True)
    assert page["sha256"] == unloaded.sha256
    assert page["capacity"] is None
    assert ready["ready"]
    assert ready["models"][unloaded.id]["state"] == "unloaded"
    assert gauge_of(metrics, "appliance_model_ready") == 3
    assert gauge_of(metrics, "appliance_model_memory_bytes") <= ready["memory_bytes"]


def test_a_model_whose_file_was_altered_is_refused_when_it_is_asked(
    running: Gateway, specs: list[ModelSpec]
) -> None:
    """Its callers hear so, others go on, and the appliance stays ready."""
    with running.client(Role.OPERATOR) as operator:
        told = operator.get("/readyz").json()["models"]
        altered = next(each for each in reversed(specs) if told[each.id]["state"] == "unloaded")
        altered.path.chmod(0o644)
        altered.path.write_bytes(altered.path.read_bytes()[:-1] + b"x")
        refused = running.chat("echo: x", model=altered.id)
        ready = operator.get("/readyz").json()

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_not_ready")
    assert int(refused.headers["retry-after"]) >= 1
    assert ready["ready"]
    trouble = next(each for each in ready["troubles"] if altered.id in each["says"])
    assert (trouble["code"], trouble["stops"]) == ("model_failed", False)
    assert running.chat("echo: y").status_code == 200
    wait_until(lambda: records(running.home, Kind.MODEL_FAILED))
    assert [each.public["code"] for each in records(running.home, Kind.MODEL_FAILED)] == ["model_altered"]
