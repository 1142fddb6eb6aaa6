"""What a caller may send to `/v1/completions`, and what each mistake is called."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.api.completions_schemas import DEFAULT_MAX_TOKENS
from appliance.terms import Endpoint
from tests.unit.api.asking import completion, completion_mistake


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a", ("a",)),
        (["a", "b", ""], ("a", "b", "")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
        ([7] * 5000, ((7,) * 5000,)),  # one long prompt, not many
    ],
)
def test_prompts_in_all_four_shapes(prompt: Any, expected: Any) -> None:
    """A text, texts, token ids, lists of them; each prompt has its own answers."""
    asked = completion(prompt=prompt, n=2)

    assert (asked.prompts, asked.messages, asked.endpoint) == (expected, (), Endpoint.COMPLETIONS)
    assert asked.num_choices == 2 * len(expected)


def test_sixteen_tokens_where_nothing_is_said() -> None:
    """The older API's default holds: an answer has at most 16 tokens."""
    assert completion().sampling.max_tokens == DEFAULT_MAX_TOKENS == 16
    assert completion(max_tokens=3).sampling.max_tokens == 3
    assert completion(logprobs=0).sampling.top_logprobs == 0
    assert completion().sampling.top_logprobs is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"prompt": None}, ("missing_required_parameter", "prompt")),
        ({"prompt": []}, ("invalid_value", "prompt")),
        ({"prompt": [[]]}, ("invalid_value", "prompt[0]")),
        ({"prompt": [-1]}, ("invalid_value", "prompt[0]")),
        ({"prompt": [[1 << 31]]}, ("invalid_value", "prompt[0][0]")),
        ({"prompt": 7}, ("invalid_type", "prompt")),
        ({"prompt": ["a"] * 129}, ("invalid_value", "prompt")),
        ({"prompt": ["a"] * 9, "n": 16}, ("invalid_value", "prompt")),
        ({"n": 17}, ("invalid_value", "n")),
        ({"best_of": 2}, ("unsupported_parameter", "best_of")),
        ({"n": 2, "best_of": 4}, ("unsupported_parameter", "best_of")),
        ({"suffix": "the end"}, ("unsupported_parameter", "suffix")),
        ({"logprobs": 6}, ("invalid_value", "logprobs")),
        ({"logprobs": True}, ("invalid_type", "logprobs")),
        ({"echo": True, "logprobs": 1}, ("unsupported_parameter", "echo")),
        ({"echo": True, "prompt": [1, 2]}, ("unsupported_parameter", "echo")),
        ({"reproducible": True, "prompt": ["a", "b"]}, ("unsupported_parameter", "prompt")),
        ({"reproducible": True, "n": 2}, ("unsupported_parameter", "n")),
        ({"stream_options": {}}, ("invalid_value", "stream_options")),
        ({"max_completion_tokens": 5}, ("unknown_parameter", "max_completion_tokens")),
        ({"messages": []}, ("unknown_parameter", "messages")),
    ],
)
def test_each_mistake_has_its_code_and_place(
    changes: dict[str, Any], expected: tuple[str, str | None]
) -> None:
    """Bad input is named by kind and by path."""
    assert completion_mistake(**changes) == expected


def test_what_means_off_is_taken() -> None:
    """`best_of` equal to `n`, an empty suffix, and null for everything optional."""
    assert completion(n=2, best_of=2, suffix="").n == 2
    assert completion(logprobs=None, echo=None, suffix=None, best_of=None, user=None).n == 1
