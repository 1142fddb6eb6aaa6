"""Reproducible mode over the fake backend: one after the other, turns with the rest, nothing left."""

from __future__ import annotations

import msgspec
import pytest

from appliance.engine.messages import DIGEST_BYTES, Delta, Failed, Finished, Setup
from tests.engines import LOAD, Bench

SETUP = Setup(n_ctx=4096, n_batch=32, n_threads=1, flash_attn=False)


def end_of(bench: Bench, request_id: str) -> Finished:
    (end,) = bench.ends(request_id)
    assert isinstance(end, Finished)
    return end


def test_same_request_same_trace() -> None:
    """Twice the same question gives the same tokens and the same logits, whoever else is there."""
    bench = Bench()
    bench.ask("one", "echo: always the same", setup=SETUP)
    bench.run()
    for number in range(3):
        bench.ask(f"other {number}", "say 30 tokens")
    bench.ask("two", "echo: always the same", setup=SETUP)
    bench.run()

    one, two = end_of(bench, "one"), end_of(bench, "two")
    assert bench.text("one") == bench.text("two") == "always the same"
    assert (one.tokens, one.digests) == (two.tokens, two.digests)
    assert len(one.digests) == (len(one.tokens) + 1) * DIGEST_BYTES  # the end was chosen, too
    assert one.cached_tokens == two.cached_tokens == 0
    bench.assert_clean()


def test_it_takes_turns_with_everybody_else() -> None:
    """A long reproducible answer and the shared ones grow together."""
    bench = Bench()
    bench.ask("alone", "say 40 tokens", setup=SETUP)
    bench.ask("shared", "say 40 tokens")
    for _ in range(25):
        bench.core.step()
    words = [bench.text(each).count("word") for each in ("alone", "shared")]

    assert min(words) > 10
    assert not bench.ends("alone")


@pytest.mark.parametrize("steps", [0, 1, 12])
def test_aborts_free_it(steps: int) -> None:
    """A caller who goes away gets one end, waiting or running, and the next one is answered."""
    bench = Bench()
    bench.ask("one", "say 40 tokens", setup=SETUP)
    bench.ask("two", "echo: next", setup=SETUP)
    for _ in range(steps):
        bench.core.step()
    bench.core.abort("one")
    bench.run()

    assert end_of(bench, "one").reason == "aborted"
    assert bench.text("two") == "next"
    bench.assert_clean()


def test_another_setup_opens_another_context() -> None:
    """Each request is computed in exactly the setup that it names."""
    bench = Bench()
    for number, n_batch in enumerate((32, 8, 32)):
        bench.ask(f"{number}", "echo: " + "x" * 60, setup=msgspec.structs.replace(SETUP, n_batch=n_batch))
    bench.run()

    assert len({bench.text(f"{number}") for number in range(3)}) == 1
    bench.assert_clean()


def test_no_memory_for_it_fails_that_request_only() -> None:
    """A context that can not be had is that caller's answer; the others go on."""
    bench = Bench()
    bench.ask("huge", "hello", setup=msgspec.structs.replace(SETUP, n_ctx=100 * LOAD.n_ctx))
    bench.ask("small", "echo: hello", setup=SETUP)
    bench.ask("shared", "echo: hello")
    bench.run()

    (failed,) = bench.ends("huge")
    assert isinstance(failed, Failed)
    assert failed.code == "out_of_memory"
    assert bench.text("small") == bench.text("shared") == "hello"
    bench.assert_clean()


def test_the_queue_is_bounded() -> None:
    """More than may wait are refused as everywhere."""
    bench = Bench()
    for number in range(LOAD.max_waiting + 3):
        bench.ask(f"{number}", "hello", setup=SETUP)
    bench.run()
    failed = [each for each in bench.said if isinstance(each, Failed)]

    assert [each.code for each in failed] == ["overloaded"] * 3
    assert any(isinstance(each, Delta) for each in bench.said)
