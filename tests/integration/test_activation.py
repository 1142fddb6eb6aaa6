"""Models change under load without one failed request, and an alias is never between two."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance import asking, config
from appliance.alias_commands import ActivateAlias, ListAliases, RollBackAlias
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.catalog import Catalog, store_path
from appliance.commands import Problem
from appliance.config import Home
from appliance.core import Role
from appliance.engine import memory
from appliance.errors import SetupError
from appliance.terms import Terms
from tests import ggufs
from tests.harness import Gateway, _children, appliance, gateway, question, sse, wait_until
from tests.homes import make_home
from tests.modelled import offered
from tests.records import assert_verified, place

pytestmark = pytest.mark.integration
STARTER = "smollm2-135m-instruct"
CALLERS = 4
LIMITS = "[limits.kiosk]\nrequests_per_minute = 0\nconcurrency = 0\n"
KEYS = {
    **ggufs.SMALL,
    "llama.context_length": 8192,
    "llama.embedding_length": 1024,
    "llama.attention.head_count": 16,
    "llama.attention.head_count_kv": 16,
}
TENSORS = [ggufs.Weights(f"blk.{layer}.attn_k.weight", (32, 32)) for layer in range(2)]


@dataclass
class Asked:
    """One request: when it was sent and when it was over, by this test's clock."""

    sent: float
    over: float
    request_id: str
    problem: str


@dataclass
class Load:
    """Callers that ask without a pause, whole answers and streams in turn."""

    running: Gateway
    asked: list[Asked] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        self.running.key()
        threads = [
            threading.Thread(target=self._ask, kwargs={"streams": each % 2 == 0}) for each in range(CALLERS)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(30)

    def _ask(self, *, streams: bool) -> None:
        with self.running.client() as client:
            while not self._stop.is_set():
                sent = time.monotonic()
                try:
                    request_id, problem = self._one(client, streams=streams)
                except httpx.HTTPError as error:
                    request_id, problem = "", type(error).__name__
                self.asked.append(Asked(sent, time.monotonic(), request_id, problem))

    def _one(self, client: httpx.Client, *, streams: bool) -> tuple[str, str]:
        body = question("please be slow; say 6 tokens", stream=streams)
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            request_id = answer.headers.get("x-request-id", "")
            if answer.status_code != 200:
                return request_id, f"{answer.status_code} {answer.read().decode()[:200]}"
            if not streams:
                return request_id, "" if json.loads(answer.read())["choices"] else "no answer"
            seen = list(sse(answer.iter_lines()))
            return request_id, "" if seen[-1] == "[DONE]" else f"ended with {seen[-1]}"


@dataclass
class Span:
    """What `default` may stand for from `begin` to `end`, by this test's clock."""

    begin: float
    end: float
    digests: set[str]


def targets(home: Home) -> dict[str, str]:
    """The digest of the model that each request's record names."""
    found = query.search(place(home), kind=Kind.REQUEST_OPENED, limit=100_000)
    return {str(each.request_id): str(each.public["model_sha256"]) for each in found}


def digest_of(running: Gateway, alias: str = "default") -> str:
    listed = running.command(ListAliases())["aliases"]
    return str(next(each["sha256"] for each in listed if each["alias"] == alias))


def take(running: Gateway, name: str) -> str:
    """A small model in the store and on the record; its digest."""
    data = bytes(ggufs.make({**KEYS, "general.name": name}, TENSORS).data)
    digest = hashlib.sha256(data).hexdigest()
    path = store_path(running.home, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    running.command(offered(name, digest, len(data)))
    return digest


def activate(running: Gateway, model: str, **more: Any) -> dict[str, Any]:
    return running.command(ActivateAlias(model=model, alias="default", why="a test", **more))


def roll_back(running: Gateway, **more: Any) -> dict[str, Any]:
    return running.command(RollBackAlias(alias="default", why="a test", **more))


def under_load(
    running: Gateway, digests: tuple[str, str], moves: int, **more: Any
) -> tuple[Load, list[Span]]:
    """`default` goes to and fro between two models while callers ask."""
    load, now = Load(running), digests[0]
    spans = [Span(0.0, 0.0, {now})]
    with load.on():
        for move in range(moves):
            seen = len(load.asked)
            wait_until(lambda seen=seen: len(load.asked) >= seen + 2 * CALLERS, seconds=60)
            spans[-1].end = begin = time.monotonic()
            moved = roll_back(running, **more) if move % 2 else activate(running, "newer", **more)
            then = digests[(move + 1) % 2]
            assert moved["sha256"] == then
            end = time.monotonic()
            spans += [Span(begin, end, {now, then}), Span(end, 0.0, {then})]
            now = then
        seen = len(load.asked)
        wait_until(lambda: len(load.asked) >= seen + 2 * CALLERS, seconds=60)
    spans[-1].end = time.monotonic()
    return load, spans


def assert_nothing_failed(running: Gateway, load: Load, spans: list[Span]) -> None:
    """Everybody was answered, each by what the alias stood for when it was admitted."""
    assert [each.problem for each in load.asked if each.problem] == []
    named = targets(running.home)
    for each in load.asked:
        # Admitted between its sending and its end: the alias stood for one of these then.
        possible = set().union(*(s.digests for s in spans if s.begin <= each.over and each.sent <= s.end))
        assert named[each.request_id] in possible
    strictly = [each for each in load.asked if _within_one(each, spans)]
    assert len({named[each.request_id] for each in strictly}) == 2  # the spans tell them apart


def test_activations_and_rollbacks_under_load_fail_no_request(tmp_path: Path) -> None:
    """Whole answers and streams go on while `default` moves six times between two models in memory."""
    with gateway(tmp_path / "home", toml=LIMITS) as running:
        running.wait_ready()
        digests = digest_of(running), take(running, "newer")
        load, spans = under_load(running, digests, 6)
        assert_nothing_failed(running, load, spans)
        running.stop()
        assert_verified(running.home)


def test_memory_for_one_makes_callers_wait_and_fails_none(tmp_path: Path) -> None:
    """Refused without consent; with it the line waits while one model makes room for the other."""
    home = make_home(tmp_path / "home", toml=LIMITS)
    settings = config.load(home).engine
    starter = Catalog.load(home=home, default_model=STARTER).resolve("default")
    assert starter is not None
    mib = (memory.needed_by(starter, settings) >> 20) + 200
    home.config.write_text(f"{LIMITS}[engine]\nmemory_mib = {mib}\n", encoding="utf-8")
    running = Gateway(home=home)
    try:
        running.start()
        digests = digest_of(running), take(running, "newer")
        refused = asking.send(home.control_socket, ActivateAlias(model="newer", alias="default", why="a"))
        assert isinstance(refused, Problem)
        assert (refused.code, digest_of(running)) == ("no_room_for_both", digests[0])
        load, spans = under_load(running, digests, 2, allow_gap=True)
        assert_nothing_failed(running, load, spans)
    finally:
        running.stop()


def test_a_model_that_does_not_load_leaves_the_alias_where_it_was(tmp_path: Path) -> None:
    """Its file was altered: callers notice nothing, the operator is told, and a key keeps its model."""
    with gateway(tmp_path / "home", toml=LIMITS) as running:
        first, second = digest_of(running), take(running, "newer")
        store_path(running.home, second).write_bytes(b"something else")
        done = appliance("model", "activate", "newer", "--why", "a test", home=running.home, check=False)

        assert done.returncode != 0
        assert digest_of(running) == first
        assert running.chat("echo: still here").status_code == 200
        assert query.search(place(running.home), kind=Kind.ALIAS_ACTIVATED, limit=1) == []


def test_keys_follow_aliases_and_stay_with_ids(tmp_path: Path) -> None:
    """A key that names the alias gets the next model, one that names an id nothing else."""
    with gateway(tmp_path / "home", toml=LIMITS) as running:
        running.wait_ready()
        take(running, "newer")
        follows = running.key(Role.KIOSK, terms=Terms(models=("default",)))
        stays = running.key(Role.KIOSK, terms=Terms(models=(STARTER,)))

        def ask(key: str, model: str) -> int:
            with running.client(None, headers={"authorization": f"Bearer {key}"}) as client:
                body = {**question("echo: x"), "model": model}
                return client.post("/v1/chat/completions", json=body).status_code

        assert [ask(follows, "default"), ask(stays, "default")] == [200, 200]
        activate(running, "newer")
        assert [ask(follows, "default"), ask(follows, "newer"), ask(follows, STARTER)] == [200, 200, 403]
        assert [ask(stays, "default"), ask(stays, STARTER)] == [403, 200]
        with running.client() as client:
            listed = {each["id"]: each for each in client.get("/v1/models").json()["data"]}
        roots = {name: each["root"] for name, each in listed.items()}
        assert roots == {STARTER: STARTER, "newer": "newer", "default": "newer"}
        assert [listed[name]["aliases"] for name in (STARTER, "newer")] == [[], ["default"]]


@pytest.mark.parametrize("moment", ["while it loads", "once it is committed"])
def test_killed_in_the_middle_the_alias_is_old_or_new(tmp_path: Path, moment: str) -> None:
    """Kill -9: after a start the alias stands where its record says, and the log verifies."""
    with gateway(tmp_path / "home", toml=LIMITS) as running:
        running.wait_ready()
        first, second = digest_of(running), take(running, "newer")

        def tell() -> None:
            asked = ActivateAlias(model="newer", alias="default", why="a test")
            with contextlib.suppress(SetupError):  # nobody answers any more
                asking.send(running.home.control_socket, asked)

        telling = threading.Thread(target=tell)
        telling.start()
        if moment == "while it loads":
            wait_until(lambda: len(_children(running.pid)) >= 2)
        else:
            wait_until(lambda: query.search(place(running.home), kind=Kind.ALIAS_ACTIVATED, limit=1))
        running.kill()
        telling.join(10)
        running.start()
        moved = query.search(place(running.home), kind=Kind.ALIAS_ACTIVATED, limit=9)

        assert digest_of(running) == (second if moved else first)
        assert bool(moved) == (moment == "once it is committed")
        assert running.chat("echo: after").status_code == 200
        running.stop()
        assert_verified(running.home)


def _within_one(asked: Asked, spans: list[Span]) -> bool:
    return any(s.begin <= asked.sent and asked.over <= s.end and len(s.digests) == 1 for s in spans)
