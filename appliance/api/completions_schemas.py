"""What may be sent to `/v1/completions` and what comes back, in OpenAI's older shapes.

The rule for parameters is the one in `schemas`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from appliance.api.body import ModelName, TokenId, refuse_unless_off
from appliance.api.completion import Usage
from appliance.api.logprobs import CompletionLogprobs
from appliance.api.sampled import Sampled, Tokens
from appliance.api.schemas import Short, annotations_of
from appliance.core import InferenceRequest, ModelSpec
from appliance.errors import RequestError
from appliance.terms import Endpoint

DEFAULT_MAX_TOKENS = 16  # as at OpenAI; chats have no default
MAX_LOGPROBS = 5
MAX_CHOICES_IN_ALL = 128  # of all prompts together

NO_EFFECT = ("user",)
OFF_VALUES: Mapping[str, tuple[object, ...]] = {"suffix": ("",)}

# The first item that does not fit ends a branch: a list may be very long.
TokenIds = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]
Prompts = (
    str
    | TokenIds
    | Annotated[list[str], Field(min_length=1, fail_fast=True)]
    | Annotated[list[TokenIds], Field(min_length=1, fail_fast=True)]
)


class CompletionRequest(Sampled):
    """What a caller may send to `/v1/completions`."""

    model: ModelName
    prompt: Prompts
    max_tokens: Tokens | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    echo: bool | None = None
    best_of: Annotated[int, Field(ge=1)] | None = None  # `n` and nothing else: the best are not chosen here
    user: Short | None = None
    # Known, and not implemented: only the value that means "off" is taken (OFF_VALUES).
    suffix: Any = None

    def to_core(self, request_id: str, model: ModelSpec | None) -> InferenceRequest:
        """The question. RequestError names what of it is not supported, or contradicts itself."""
        refuse_unless_off(self, OFF_VALUES)
        prompts = self.prompts()
        n = self.n or 1
        self.refuse_contradictions(n * len(prompts))
        self._refuse_unsupported(prompts, n)
        return InferenceRequest(
            request_id=request_id,
            model=self.model,
            messages=(),
            prompts=prompts,
            sampling=self.sampling(
                model,
                max_tokens=DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens,
                top_logprobs=self.logprobs,
            ),
            endpoint=Endpoint.COMPLETIONS,
            n=n,
            stream=bool(self.stream),
            timeout_seconds=self.timeout,
            reproducible=bool(self.reproducible),
            annotations=annotations_of(self, NO_EFFECT),
        )

    def prompts(self) -> tuple[str | tuple[int, ...], ...]:
        """One or several: texts, or token ids."""
        if isinstance(self.prompt, str):
            return (self.prompt,)
        if isinstance(self.prompt[0], int):
            return (_ids(self.prompt),)
        return tuple(each if isinstance(each, str) else _ids(each) for each in self.prompt)

    def echoes(self) -> list[str]:
        """What stands before each choice's answer: its prompt, where that is asked for."""
        prompts = self.prompts() if self.echo else ()
        return [str(each) for each in prompts for _ in range(self.n or 1)]

    def _refuse_unsupported(self, prompts: tuple[str | tuple[int, ...], ...], n: int) -> None:
        if n * len(prompts) > MAX_CHOICES_IN_ALL:
            raise RequestError(
                f"at most {MAX_CHOICES_IN_ALL} answers are given to one request, of all prompts together",
                code="invalid_value",
                param="prompt",
            )
        if self.best_of is not None and self.best_of != n:
            raise RequestError(
                "best_of is not supported by this appliance, unless it equals n",
                code="unsupported_parameter",
                param="best_of",
            )
        if self.echo and self.logprobs is not None:
            raise RequestError(
                "echo does not go with logprobs on this appliance: a prompt's own are not computed",
                code="unsupported_parameter",
                param="echo",
            )
        if self.echo and not all(isinstance(each, str) for each in prompts):
            raise RequestError(
                "echo is supported for texts, not for token ids; POST /detokenize spells them out",
                code="unsupported_parameter",
                param="echo",
            )


class CompletionChoice(BaseModel):
    """One answer, or in a stream a piece of it: `finish_reason` is null until the last piece."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None


class Completion(BaseModel):
    """A whole answer, or a chunk of a stream: both are told in the same shape."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


def _ids(given: Any) -> tuple[int, ...]:
    return tuple(given)
