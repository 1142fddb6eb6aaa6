"""The starter model on a GPU, whole and in part: it answers as on the processor, but for rounding."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.engine.messages import Delta, Finished, Generate, Logprob, Ready
from appliance.engine.question import Sampling, Turn
from tests import computing

pytestmark = [pytest.mark.gpu, pytest.mark.model]

LAYERS = 30  # of the starter model
TOKENS = 48
# Greedy, with the five likeliest tokens in each place.
GREEDY = Sampling(0.0, 1.0, 40, 0.0, 1.0, 0.0, 0.0, None, TOKENS, (), top_logprobs=5)
QUESTIONS = (
    "What is a tax return?",
    "Name three colours.",
    "Where do I hand in form 12?",
    "Is the office open on Friday?",
)
# Two tokens that are no further apart than this may change places by rounding.
NEAR = 0.3


def answers(model: Path, **changes: object) -> tuple[Ready, list[list[Logprob]]]:
    """Each question's tokens, with what stood beside them."""
    found: list[list[Logprob]] = []
    with computing.worker(computing.load_of(model, n_ctx=1024, **changes)) as (channel, said):
        assert isinstance(said, Ready), said
        for number, text in enumerate(QUESTIONS):
            channel.send(Generate(str(number), (Turn("user", text),), GREEDY))
            found.append([])
            while not isinstance(message := channel.receive(), Finished):
                assert message is not None
                if isinstance(message, Delta):
                    found[-1].extend(message.logprobs)
    return said, found


@pytest.mark.parametrize("layers", [-1, LAYERS // 2], ids=["whole", "half"])
def test_a_gpu_answers_as_the_processor_does(layers: int, starter_model_path: Path) -> None:
    """Token by token until two of them are as good as equal, where either may come; never at another place.

    The devices stand in what the worker says, its sandbox has the GPU's list, and nothing fell back.
    """
    on_gpu, written = answers(starter_model_path, device="cuda", n_gpu_layers=layers)
    on_processor, expected = answers(starter_model_path, device="cpu")

    assert on_gpu.backend.startswith("CUDA0 (")
    assert on_gpu.backend.endswith(on_processor.backend)
    assert (on_gpu.fallback, "seccomp_gpu" in on_gpu.sandbox) == (None, True)
    for mine, theirs in zip(written, expected, strict=True):
        for ours, other in zip(mine, theirs, strict=False):
            if ours.token == other.token:
                assert abs(ours.logprob - other.logprob) < NEAR
                continue
            beside = dict(other.top)
            assert ours.token in beside, (ours, other)
            assert other.logprob - beside[ours.token] < NEAR, (ours, other)
            break
    agreed = sum(mine[0].token == theirs[0].token for mine, theirs in zip(written, expected, strict=True))
    assert agreed >= len(QUESTIONS) - 1


def test_a_large_model_is_loaded_whole_and_in_part(large: Path) -> None:
    """Eight billion weights: all layers on the GPU, half of them, and it writes both times."""
    for layers in (-1, 16):
        load = computing.load_of(large, device="cuda", n_gpu_layers=layers, n_ctx=2048)
        with computing.worker(load) as (channel, said):
            assert isinstance(said, Ready), said
            assert said.backend.startswith("CUDA0 (")
            assert computing.answer(channel)
