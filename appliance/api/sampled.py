"""How an answer is drawn: the parameters that chats and completions have in common."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Protocol

from pydantic import Field, StringConstraints

from appliance.api.body import Body
from appliance.core import ModelSpec, SamplingParams
from appliance.engine.wire import SEEDS
from appliance.errors import RequestError

MAX_CHOICES = 16  # answers to one prompt
MAX_STOPS = 4
MAX_TOKENS = 1 << 24
MAX_BIASED = 1024  # tokens of one `logit_bias`
MAX_TIMEOUT_SECONDS = 24 * 60 * 60

Stop = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Bias = Annotated[float, Field(ge=-100, le=100)]
# Decimal, below 2**31 (llama_token is an int32), each number in one way only.
TokenKey = Annotated[
    str,
    StringConstraints(pattern=r"^(0|[1-9][0-9]{0,8}|1[0-9]{9}|20[0-9]{8}|21[0-3][0-9]{7})$"),
]
Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class StreamOptions(Body):
    """`include_obfuscation` is tolerated: padding hides nothing inside one building's network."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Sampled(Body):
    """The part of a question that says how tokens are chosen, and how the answer travels."""

    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: Annotated[dict[TokenKey, Bias], Field(max_length=MAX_BIASED)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    # Ours: the same request gives the same answer, bit by bit, and it can be replayed from the record.
    reproducible: bool | None = None
    # Ours: seconds that the answer may take. The appliance's own limit holds besides.
    timeout: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_SECONDS)] | None = None

    def refuse_contradictions(self, num_choices: int | None = None) -> None:
        """RequestError for parameters that do not go together. `num_choices` where it is not `n`."""
        refuse_options_alone(self.stream_options, is_stream=bool(self.stream))
        if self.reproducible and (num_choices or self.n or 1) > 1:
            raise RequestError(
                "one answer can be computed again, several can not: reproducible needs n: 1",
                code="unsupported_parameter",
                param="n" if self.n else "prompt",
            )

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(
        self, model: ModelSpec | None, *, max_tokens: int | None, top_logprobs: int | None
    ) -> SamplingParams:
        """In core's words, with the model's own defaults where the caller gave no value."""
        return sampling_of(
            model,
            **drawing_of(self),
            max_tokens=max_tokens,
            logit_bias=tuple(sorted((int(token), bias) for token, bias in (self.logit_bias or {}).items())),
            top_logprobs=top_logprobs,
        )


class Drawing(Protocol):
    """The parameters of drawing that every endpoint which generates has, under the same names."""

    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repeat_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    seed: int | None
    stop: str | list[str] | None


def drawing_of(asked: Drawing) -> dict[str, Any]:
    """What a caller said of how tokens are drawn, by the names of `SamplingParams`; None: nothing."""
    return {
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "top_k": asked.top_k,
        "min_p": asked.min_p,
        "repeat_penalty": asked.repeat_penalty,
        "presence_penalty": asked.presence_penalty,
        "frequency_penalty": asked.frequency_penalty,
        "seed": None if asked.seed is None else asked.seed % SEEDS,
        "stop": (asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ()),
    }


def refuse_options_alone(options: Body | None, *, is_stream: bool) -> None:
    """RequestError for options of a stream that is none."""
    if options is not None and not is_stream:
        raise RequestError("stream_options needs stream: true", code="invalid_value", param="stream_options")


def sampling_of(model: ModelSpec | None, **given: Any) -> SamplingParams:
    """The model's own defaults with what a caller gave, by the names of `SamplingParams`; None: not given."""
    defaults = model.sampling if model else SamplingParams()
    return dataclasses.replace(
        defaults, **{name: value for name, value in given.items() if value is not None}
    )
