"""Log-probabilities in both of OpenAI's shapes: of chats, and of completions."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from pydantic import BaseModel

from appliance.core import TokenLogprob

FLOOR = -9999.0  # said in place of minus infinity, which JSON does not have


class TopLogprob(BaseModel):
    """A token that might have stood there. `bytes` tells what half a character's text can not."""

    token: str
    logprob: float
    bytes: list[int] | None


class ContentLogprob(TopLogprob):
    """A token that was chosen."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """Of every token of what is said; not of what is thought, called or stopped at."""

    content: list[ContentLogprob]
    refusal: None = None


class CompletionLogprobs(BaseModel):
    """Four lists, an entry for each token. Offsets count characters from the beginning of `text`."""

    text_offset: list[int]
    token_logprobs: list[float]
    tokens: list[str]
    top_logprobs: list[dict[str, float]]


def chat_logprobs(found: Sequence[TokenLogprob]) -> ChatLogprobs:
    """In the shape of `/v1/chat/completions`."""
    return ChatLogprobs(
        content=[
            ContentLogprob(
                token=_text(each.token),
                logprob=_floored(each.logprob),
                bytes=list(each.token),
                top_logprobs=[
                    TopLogprob(token=_text(token), logprob=_floored(logprob), bytes=list(token))
                    for token, logprob in each.top
                ],
            )
            for each in found
        ]
    )


class Legacy:
    """The shape of `/v1/completions`, for one choice whose pieces come one after the other."""

    def __init__(self, offset: int = 0) -> None:
        self._offset = offset  # characters before the next token
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, found: Sequence[TokenLogprob]) -> CompletionLogprobs:
        """Of the next tokens."""
        shaped = CompletionLogprobs(text_offset=[], token_logprobs=[], tokens=[], top_logprobs=[])
        for each in found:
            shaped.text_offset.append(self._offset)
            shaped.token_logprobs.append(_floored(each.logprob))
            shaped.tokens.append(_named(each.token))
            top = dict((*each.top, (each.token, each.logprob)))  # the chosen one is always among them
            shaped.top_logprobs.append({_named(token): _floored(logprob) for token, logprob in top.items()})
            self._offset += len(self._decoder.decode(each.token))
        return shaped


def _text(token: bytes) -> str:
    return token.decode("utf-8", "replace")


def _named(token: bytes) -> str:
    """A token's text; as `bytes:…` where it is none: different tokens have different names."""
    try:
        return token.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{each:02x}" for each in token)


def _floored(logprob: float) -> float:
    return max(FLOOR, logprob)
