"""Answers that fit a JSON Schema: which tokens may come next, by llguidance.

The way in a step is test-then-mask: the sampler chooses freely, the grammar is asked about that one
token, and only where it says no is the mask of the whole vocabulary computed.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from appliance.engine.worker import trial
from appliance.engine.worker.schemas import SchemaError, check

Mask = npt.NDArray[np.bool_]
# Between tokens of JSON: one space, or a new line and its indentation. Without a bound a small model
# that has nothing to say may write spaces until its limit.
_SPACE = r"( |\n {0,32})?"
_SPECIAL = b"\xff"  # llguidance's mark of control tokens: no text contains this byte
# Compiled grammars are kept: a room asks the same few all day. One takes about 300 bytes a character.
MAX_KEPT = 64
MAX_KEPT_CHARACTERS = 512 * 1024
MAX_LARK_CHARACTERS = 512 * 1024

# What one answer's grammar may take of the step thread, which everybody waits for: nanoseconds of it.
FIRST_NS = 250_000_000
EACH_TOKEN_NS = 10_000_000

# How the compiler's errors begin, and what is told of them: its own words may quote a schema.
_REASONS = (
    ("unsatisfiable", "no answer can fit it"),
    ("oneof", "'oneOf' whose alternatives are not surely apart: use 'anyOf'"),
    ("unable to determine if regex is empty", "its patterns and lengths are too complex together"),
    ("patternproperty regexes", "'patternProperties' whose patterns are not surely apart"),
    ("can't determine if patternproperty", "'patternProperties' whose patterns are not surely apart"),
    ("circular references", "'$ref' in a circle, with keywords beside it"),
    ("too large", "it is too large"),
    ("too big", "it is too large"),
    ("fuel", "it is too complex"),
    ("too many", "it is too complex"),
    ("regex", "one of its patterns can not be compiled"),
)


class GrammarError(Exception):
    """The schema can not be used; the message is for the caller, and tells what is wrong with it."""


class GrammarExhausted(Exception):
    """In the middle of an answer a limit was met, or no token of this model can go on: for the caller.

    The matcher stays as it is then, and would call the broken answer complete.
    """


class Model(Protocol):
    """What is needed of a model."""

    def tokenize(self, text: str, *, parse_special: bool, add_bos: bool) -> list[int]: ...

    def vocabulary(self) -> tuple[list[bytes], list[int]]:
        """The bytes of every token (empty for control tokens), and the tokens that end an answer."""
        ...

    def spell(self, token: int) -> bytes:
        """The bytes of a token, control tokens too."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """What an answer keeps to, as text: a JSON Schema, or a grammar in llguidance's Lark."""

    kind: Literal["schema", "lark"]
    text: str


class Grammars:
    """Compiles for one model, and keeps what it compiled: `find` in any thread, the rest in one.

    With `pipes` a process of its own tries each grammar first (trial.py).
    """

    def __init__(self, model: Model, pipes: trial.Pipes | None = None) -> None:
        self._model = model
        self._tokenizer: LLTokenizer | None = None
        self._ends: frozenset[int] = frozenset()
        self._limits = new_limits()
        self._kept: OrderedDict[tuple[str, Source], LLMatcher] = OrderedDict()
        self._lock = threading.Lock()  # of what is kept
        self._vocabulary: trial.Vocabulary | None = None
        self._trial = trial.Trial(self._read_vocabulary, pipes) if pipes is not None else None

    def find(self, source: Source, *, tenant: str = "") -> Grammar | None:
        """A grammar that this tenant had compiled before, at its beginning.

        Another one's would be there as quickly, which would tell who asks with which schema.
        """
        with self._lock:
            kept = self._kept.get((tenant, source))
            if kept is None or self._tokenizer is None:
                return None
            self._kept.move_to_end((tenant, source))
        return Grammar(kept, self._tokenizer.vocab_size, self._ends)

    def compile(self, source: Source, *, tenant: str = "") -> Grammar:
        """A grammar at its beginning. `tenant` is who keeps it, and whose trials it counts among.

        In Lark a control token is named by its text, as in `<|python_tag|>`, and a `%json` schema comes from
        `schemas.check`: nobody looks at it here. GrammarError for what can not be kept to.
        """
        found = self.find(source, tenant=tenant)
        if found is not None:
            return found
        matcher, tokenizer = self._compile(source, tenant)
        with self._lock:
            self._kept[tenant, source] = matcher
            while len(self._kept) > MAX_KEPT or self._num_kept_characters > MAX_KEPT_CHARACTERS:
                self._kept.popitem(last=False)
        return Grammar(matcher, tokenizer.vocab_size, self._ends)

    @property
    def _num_kept_characters(self) -> int:
        return sum(len(source.text) for _, source in self._kept)

    def _compile(self, source: Source, tenant: str) -> tuple[LLMatcher, LLTokenizer]:
        text = _grammar_text(source)
        if self._tokenizer is None:  # a second's work for a large vocabulary: for those who need it
            vocabulary = self._read_vocabulary()
            self._ends = frozenset(vocabulary.ends)
            self._tokenizer = new_tokenizer(vocabulary, self._plain)
        if self._trial is not None:
            try:
                self._trial.try_out(text, tenant)
            except trial.TrialError as error:
                raise GrammarError(str(error)) from error
        matcher = LLMatcher(self._tokenizer, text, log_level=0, limits=self._limits)
        if matcher.is_error():
            raise GrammarError(_reason(matcher.get_error()))
        if matcher.get_grammar_warnings():
            raise GrammarError("the compiler would not keep to all of it")
        first = matcher.deep_copy()
        first.compute_bitmask()
        if first.is_error():
            raise GrammarError("no answer can fit it, or it is too complex")
        return matcher, self._tokenizer

    def _read_vocabulary(self) -> trial.Vocabulary:
        if self._vocabulary is None:
            pieces, ends = self._model.vocabulary()
            # A mark without a name would be allowed wherever any control token is.
            tokens = [
                piece or _SPECIAL + (self._model.spell(token) or b"<unnamed %d>" % token)
                for token, piece in enumerate(pieces)
            ]
            special = [token for token, piece in enumerate(pieces) if not piece]
            self._vocabulary = trial.Vocabulary(tokens, special, ends)
        return self._vocabulary

    def _plain(self, text: str) -> list[int]:
        return self._model.tokenize(text, parse_special=False, add_bos=False)


class Grammar:
    """Where one answer stands in its schema. Owner: the step thread.

    What was compiled is shared until the first token: who waits holds no copy of it.
    """

    def __init__(
        self,
        matcher: LLMatcher,
        n_vocab: int,
        ends: frozenset[int],
        *,
        clock_ns: Callable[[], int] = time.thread_time_ns,
    ) -> None:
        self._shared = matcher
        self._own: LLMatcher | None = None
        self._n_vocab = n_vocab
        self._ends = ends
        self._bits = np.zeros(0, np.uint32)
        self._clock_ns = clock_ns
        self._left_ns = FIRST_NS  # of this thread's time

    def allows(self, token: int) -> bool:
        """Whether this token may come next. The end may come where the answer is complete."""
        if token in self._ends:
            return self._matcher.is_accepting()
        began_ns = self._clock_ns()
        allowed = self._matcher.validate_tokens([token]) == 1
        self._spend(began_ns)
        return allowed

    def mask(self) -> Mask:
        """Which tokens may come next, of the whole vocabulary; never none. GrammarExhausted else."""
        began_ns = self._clock_ns()
        matcher = self._matcher
        matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        if matcher.is_error():  # the mask says "end here" then, which the schema does not
            raise self._exhausted()
        self._spend(began_ns)
        bits = np.unpackbits(self._bits.view(np.uint8), bitorder="little")
        mask = bits[: self._n_vocab].astype(np.bool_)
        if not mask.any():
            raise self._exhausted()
        return mask

    def accept(self, token: int) -> None:
        """The token was chosen. GrammarExhausted where the matcher can not follow it."""
        if token in self._ends:
            return
        self._left_ns += EACH_TOKEN_NS
        began_ns = self._clock_ns()
        if not self._matcher.consume_token(token):
            raise self._exhausted()
        self._spend(began_ns)

    @property
    def is_complete(self) -> bool:
        """Nothing but the end may follow."""
        return bool(self._matcher.is_stopped())

    @property
    def _matcher(self) -> LLMatcher:
        if self._own is None:
            self._own = self._shared.deep_copy()
            self._bits = np.zeros((self._n_vocab + 31) // 32, np.uint32)
        return self._own

    def _spend(self, began_ns: int) -> None:
        self._left_ns -= self._clock_ns() - began_ns
        if self._left_ns < 0:
            raise GrammarExhausted("the schema can not be kept to in this answer: it takes too much time")

    def _exhausted(self) -> GrammarExhausted:
        reason = _reason(self._matcher.get_error()) if self._matcher.is_error() else "nothing may follow"
        return GrammarExhausted(f"the schema can not be kept to in this answer: {reason}")


def new_limits() -> LLParserLimits:
    """Of one grammar, and of one step in it; what is not named here is llguidance's own.

    A state of its lexer is one to two kilobytes, of each answer.
    """
    return LLParserLimits(max_lexer_states=25_000, verbose_errors=False)


def new_tokenizer(vocabulary: trial.Vocabulary, tokenize: Callable[[str], list[int]]) -> LLTokenizer:
    """The vocabulary as llguidance takes it."""
    wrapped = TokenizerWrapper(_Tokens(vocabulary, tokenize))
    return LLTokenizer(wrapped, n_vocab=len(vocabulary.tokens), eos_token=vocabulary.ends)


def compiles(tokenizer: LLTokenizer, text: str) -> bool:
    """Whether a grammar compiles, and has a first mask: for the trial."""
    matcher = LLMatcher(tokenizer, text, log_level=0, limits=new_limits())
    if not matcher.is_error():
        matcher.compute_bitmask()
    return not matcher.is_error()


def rehearse() -> None:
    """Compile something small with a vocabulary of two tokens."""
    vocabulary = trial.Vocabulary([b"a", _SPECIAL + b"<end>"], [1], [1])
    tokenizer = new_tokenizer(vocabulary, lambda _text: [0])
    text = LLMatcher.grammar_from_json_schema('{"type": "string"}', overrides={"whitespace_pattern": _SPACE})
    for each in ("start: /a*/", text):
        compiles(tokenizer, each)


class _Tokens:
    """A model's vocabulary in the words of llguidance."""

    def __init__(self, vocabulary: trial.Vocabulary, tokenize: Callable[[str], list[int]]) -> None:
        self.tokens = vocabulary.tokens
        self.eos_token_id = vocabulary.ends[0]
        self.bos_token_id = None
        self.special_token_ids = vocabulary.special
        self._tokenize = tokenize

    def __call__(self, text: Any) -> list[int]:
        if isinstance(text, bytes):
            raise TypeError("this tokenizer takes text")
        return self._tokenize(text)


def _grammar_text(source: Source) -> str:
    if source.kind == "lark":
        if len(source.text) > MAX_LARK_CHARACTERS:
            raise GrammarError("it is too large")
        return LLMatcher.grammar_from_lark(source.text)
    try:
        checked = check(source.text)
        return LLMatcher.grammar_from_json_schema(checked, overrides={"whitespace_pattern": _SPACE})
    except SchemaError as error:
        raise GrammarError(str(error)) from error
    except ValueError as error:
        raise GrammarError(_reason(str(error))) from error


def _reason(words: str) -> str:
    lowered = words.lower()
    return next((told for begin, told in _REASONS if begin in lowered), "it can not be compiled")
