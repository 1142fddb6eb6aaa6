"""Several answers to one question, over a real worker process with the fake backend."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import aclosing

import pytest

from appliance.core import (
    ChatMessage,
    Delta,
    Finished,
    FinishReason,
    InferenceRequest,
    SamplingParams,
    Started,
    Timings,
    Usage,
)
from appliance.engine import choices
from appliance.engine.supervisor import Engine
from appliance.errors import ApplianceError, RequestError, Unavailable
from appliance.terms import Endpoint
from tests.unit.engine.test_supervisor import running, until

LONG = "A long instruction that all of them begin with, word for word. " * 12


def several(text: str, n: int, request_id: str = "req_1", **options: object) -> InferenceRequest:
    sampling = SamplingParams(**options)  # type: ignore[arg-type]
    return InferenceRequest(request_id, "fake", (ChatMessage("user", text),), sampling, n=n)


async def collect(
    engine: Engine, request: InferenceRequest
) -> tuple[dict[int, str], list[Started], list[Finished]]:
    texts: dict[int, str] = defaultdict(str)
    started, ends = [], []
    async for item in engine.generate(request, tenant="kiosk"):
        if isinstance(item, Started):
            started.append(item)
        elif isinstance(item, Delta):
            texts[item.index] += item.text
        else:
            ends.append(item)
    return texts, started, ends


def is_idle(engine: Engine) -> bool:
    stats = engine.status.stats
    return stats is not None and stats.running == stats.waiting == 0


async def test_each_choice_has_its_seed_and_the_prompt_is_computed_once() -> None:
    """Different answers, one end; the prompt counts once, and all but one took it from another."""
    async with running(n_seq_max=4) as (engine, _):
        texts, started, ends = await collect(engine, several(f"{LONG}\nroll 12 dice", 4, seed=7))
        again, _, _ = await collect(engine, several(f"{LONG}\nroll 12 dice", 4, "req_2", seed=7))
        await until(lambda: is_idle(engine))
        stats = engine.status.stats
    (end,) = ends

    assert len(set(texts.values())) == 4
    assert again == texts
    assert sorted(each.index for each in started) == [0, 1, 2, 3]
    assert end.usage.prompt_tokens == started[0].prompt_tokens
    assert end.usage.completion_tokens == 4 * 12
    assert end.usage.cached_tokens <= end.usage.prompt_tokens
    assert end.reasons == (FinishReason.STOP,) * 4
    assert end.stops == ("",) * 4
    assert stats is not None
    # Two requests of four choices: computed once, seven times taken but for the last few tokens.
    assert stats.prompt_tokens < 2 * started[0].prompt_tokens
    assert stats.cached_tokens > 6 * started[0].prompt_tokens


async def test_without_a_seed_choices_are_answers_too() -> None:
    """The stop string that ended each is told for each."""
    async with running() as (engine, _):
        texts, _, (end,) = await collect(engine, several("echo: one END two", 3, stop=("END",)))

    assert texts == dict.fromkeys(range(3), "one ")
    assert end.stops == ("END",) * 3


async def test_prompts_have_their_choices() -> None:
    """Choice i answers prompt i // n; each prompt's tokens count once."""
    request = InferenceRequest(
        "req_1",
        "fake",
        (),
        SamplingParams(),
        endpoint=Endpoint.COMPLETIONS,
        prompts=("say 3 tokens", tuple(b"echo: yes")),
        n=2,
    )
    async with running() as (engine, _):
        texts, _, (end,) = await collect(engine, request)

    assert texts == {0: " word" * 3, 1: " word" * 3, 2: "yes", 3: "yes"}
    assert end.usage.prompt_tokens == len("say 3 tokens") + len("echo: yes")


async def test_one_that_is_refused_ends_all() -> None:
    """The first error is the request's; nothing goes on behind it."""
    async with running() as (engine, _):
        with pytest.raises(RequestError) as refused:
            await collect(engine, several("hello", 3, logit_bias=((999, 1.0),)))
        await collect(engine, several("hello", 1, "req_2"))
        await until(lambda: is_idle(engine))

        assert refused.value.param == "logit_bias"
        assert engine.num_asked == 0


async def test_one_that_fails_ends_all() -> None:
    """More choices than may wait: the request fails as a whole, and the places are free again."""
    async with running(n_seq_max=1, max_waiting=2) as (engine, _):
        with pytest.raises(Unavailable) as failed:
            await collect(engine, several("say 500 tokens", 8))
        texts, _, _ = await collect(engine, several("echo: free", 2, "req_2"))

    assert failed.value.code == "overloaded"
    assert set(texts.values()) == {"free"}


async def test_who_closes_ends_all() -> None:
    """Closing the stream early aborts each choice in the worker."""
    async with running(n_seq_max=4) as (engine, _):
        async with aclosing(engine.generate(several("please be slow, say 500 tokens", 4))) as stream:
            async for item in stream:
                if isinstance(item, Delta):
                    break
        assert engine.num_asked == 0
        await until(lambda: is_idle(engine))


async def test_a_death_ends_all() -> None:
    """The worker's death is one error, whatever the number of choices."""
    async with running() as (engine, _):
        with pytest.raises(ApplianceError) as failed:
            await collect(engine, several("please crash, say 9 tokens", 3))

    assert failed.value.code == "engine_failed"


async def test_times_are_those_of_the_whole() -> None:
    """From the first one's wait to the last one's end: no choice took longer in any of them."""

    async def one(index: int, timings: Timings) -> choices.Stream:
        await asyncio.sleep(0)
        yield Started(5, index=index)
        yield Finished(
            FinishReason.STOP, Usage(5, index, index), timings, reasons=(FinishReason.STOP,), stops=("",)
        )

    streams = [one(0, Timings(10, 100, 1000)), one(1, Timings(300, 5, 900)), one(2, Timings(700, 5, 900))]
    *_, end = [each async for each in choices.merged(streams, 3)]

    assert isinstance(end, Finished)
    # The first waited 10; the last was done at 700 + 5 + 900, and the first token came at 110.
    assert end.timings == Timings(queue_us=10, prefill_us=100, decode_us=700 + 5 + 900 - 110)
    assert end.usage == Usage(5, 3, 0)
