"""Answers that fit a JSON Schema: which tokens may come next, by llguidance.

The way in a step is test-then-mask: the sampler chooses freely, the grammar is asked about that one
token, and only where it says no is the mask of the whole vocabulary computed.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

Mask = npt.NDArray[np.bool_]
# Between tokens of JSON: one space, or a new line and its indentation. Without a bound a small model
# that has nothing to say may write spaces until its limit.
_SPACE = r"( |\n {0,32})?"
_SPECIAL = b"\xff"  # llguidance's mark of control tokens: no text contains this byte


class GrammarError(Exception):
    """The schema can not be used; the message is for the caller, and tells what is wrong with it."""


class GrammarExhausted(Exception):
    """In the middle of an answer a limit was met, or no token of this model can go on: for the caller.

    The matcher stays as it is then, and would call the broken answer complete.
    """


class Vocabulary(Protocol):
    """What is needed of a model."""

    def tokenize(self, text: str, *, parse_special: bool, add_bos: bool) -> list[int]: ...

    def vocabulary(self) -> tuple[list[bytes], list[int]]:
        """The bytes of every token (empty for control tokens), and the tokens that end an answer."""
        ...

    def spell(self, token: int) -> bytes:
        """The bytes of a token, control tokens too."""
        ...


class Grammars:
    """Compiles schemas for one model. Used by the intake thread only."""

    def __init__(self, model: Vocabulary) -> None:
        self._model = model
        self._tokenizer: LLTokenizer | None = None
        self._ends: frozenset[int] = frozenset()
        self._limits = LLParserLimits()

    def compile(self, schema: str) -> Grammar:
        """A grammar at its beginning. GrammarError where the schema is none that can be kept to."""
        try:
            text = LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_pattern": _SPACE})
        except ValueError as error:
            raise GrammarError(_first_line(str(error))) from error
        return self._compile(text)

    def compile_lark(self, lark: str) -> Grammar:
        """A grammar in llguidance's Lark, at its beginning: text, `%json` schemas, control tokens.

        A control token is named by its text, as in `<|python_tag|>`. GrammarError as with `compile`.
        """
        return self._compile(LLMatcher.grammar_from_lark(lark))

    def _compile(self, text: str) -> Grammar:
        if self._tokenizer is None:  # a second's work for a large vocabulary: for those who need it
            self._tokenizer = self._new_tokenizer()
        matcher = LLMatcher(self._tokenizer, text, log_level=0, limits=self._limits)
        if matcher.is_error():
            raise GrammarError(_first_line(matcher.get_error()))
        return Grammar(matcher, self._tokenizer.vocab_size, self._ends)

    def _new_tokenizer(self) -> LLTokenizer:
        pieces, ends = self._model.vocabulary()
        self._ends = frozenset(ends)
        tokens = [piece or _SPECIAL + self._model.spell(token) for token, piece in enumerate(pieces)]
        special = [token for token, piece in enumerate(pieces) if not piece]
        wrapped = TokenizerWrapper(_Tokens(self._model, tokens, ends[0], special))
        return LLTokenizer(wrapped, n_vocab=len(tokens), eos_token=ends)


class Grammar:
    """Where one answer stands in its schema. Owner: the step thread."""

    def __init__(self, matcher: LLMatcher, n_vocab: int, ends: frozenset[int]) -> None:
        self._matcher = matcher
        self._n_vocab = n_vocab
        self._ends = ends
        self._bits = np.zeros((n_vocab + 31) // 32, np.uint32)

    def allows(self, token: int) -> bool:
        """Whether this token may come next. The end may come where the answer is complete."""
        if token in self._ends:
            return self._matcher.is_accepting()
        return self._matcher.validate_tokens([token]) == 1

    def mask(self) -> Mask:
        """Which tokens may come next, of the whole vocabulary; never none. GrammarExhausted else."""
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        if self._matcher.is_error():  # the mask says "end here" then, which the schema does not
            raise self._exhausted()
        bits = np.unpackbits(self._bits.view(np.uint8), bitorder="little")
        mask = bits[: self._n_vocab].astype(np.bool_)
        if not mask.any():
            raise self._exhausted()
        return mask

    def accept(self, token: int) -> None:
        """The token was chosen. GrammarExhausted where the matcher can not follow it."""
        if token in self._ends:
            return
        if not self._matcher.consume_token(token):
            raise self._exhausted()

    @property
    def is_complete(self) -> bool:
        """Nothing but the end may follow."""
        return bool(self._matcher.is_stopped())

    def _exhausted(self) -> GrammarExhausted:
        # Its own words may quote the answer: only the first line is the limit's name.
        reason = _first_line(self._matcher.get_error()) if self._matcher.is_error() else "nothing may follow"
        return GrammarExhausted(f"the schema can not be kept to in this answer: {reason}")


class _Tokens:
    """A model's vocabulary in the words of llguidance."""

    def __init__(self, model: Vocabulary, tokens: list[bytes], end: int, special: list[int]) -> None:
        self._model = model
        self.tokens = tokens
        self.eos_token_id = end
        self.bos_token_id = None
        self.special_token_ids = special

    def __call__(self, text: Any) -> list[int]:
        if isinstance(text, bytes):
            raise TypeError("this tokenizer takes text")
        return self._model.tokenize(text, parse_special=False, add_bos=False)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:300] if text.strip() else "it can not be compiled"
