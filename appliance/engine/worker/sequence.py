"""The one mutable object of a request inside the worker. Owner: the step thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np
import numpy.typing as npt

from appliance.engine.messages import Finished, Setup
from appliance.engine.question import Sampling
from appliance.engine.worker.grammar import Grammar


class Status(Enum):
    """WAITING has no sequence id; PREFILL reads what is known; DECODE writes one token a step."""

    WAITING = auto()
    PREFILL = auto()
    DECODE = auto()


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose cells these are, and under which adapter they were computed: under another one they would
    hold other numbers.
    """

    tenant: str
    adapter: str = ""


@dataclass(slots=True, eq=False)
class Sequence:
    """Prompt, progress and limits of one request. Lengths are in tokens, times in microseconds."""

    request_id: str
    prompt: list[int] = field(repr=False)
    max_tokens: int
    sampling: Sampling = field(repr=False)
    tenant: str = ""
    grammar: Grammar | None = field(default=None, repr=False)
    spelt: frozenset[int] = frozenset()  # control tokens whose texts belong to the answer's text
    begins_thinking: bool = False  # the prompt's last tokens opened the model's reasoning
    reference: npt.NDArray[np.int32] | None = field(default=None, repr=False)  # a guess at the answer
    num_system: int = 0  # tokens of its system message, about: what is meant to come again
    num_declared: int = 0  # leading tokens of the prompt that the operator declared shared
    draft: list[int] = field(default_factory=list, repr=False)  # guesses to be checked in the next step
    setup: Setup | None = None  # reproducible: it is computed alone
    adapter: str = ""  # under which it is computed; empty: the model as it is
    status: Status = Status.WAITING
    seq_id: int = -1
    num_computed: int = 0  # tokens whose cells are filled: the next position
    num_cached: int = 0  # of the prompt, taken from somebody who had computed it
    output: list[int] = field(default_factory=list, repr=False)
    stop: str = field(default="", repr=False)  # the stop string that ended the answer
    cells: list[int] = field(default_factory=list, repr=False)  # one for each token, scheduled ones too
    arrived_us: int = 0
    started_us: int = 0  # first prefill
    decoding_us: int = 0  # first token
    _prompt_array: npt.NDArray[np.int32] | None = field(default=None, repr=False)

    @property
    def owner(self) -> Owner:
        """What may be shared with whom."""
        return Owner(self.tenant, self.adapter)

    @property
    def num_prompt(self) -> int:
        return len(self.prompt)

    @property
    def num_tokens(self) -> int:
        """Everything that is known: prompt and answer so far."""
        return len(self.prompt) + len(self.output)

    @property
    def prompt_array(self) -> npt.NDArray[np.int32]:
        """The prompt for comparing; made once."""
        if self._prompt_array is None:
            self._prompt_array = np.array(self.prompt, np.int32)
        return self._prompt_array

    def known(self, begin: int, size: int) -> list[int]:
        """The known tokens from `begin` on."""
        num_prompt = len(self.prompt)
        if begin >= num_prompt:
            return self.output[begin - num_prompt : begin - num_prompt + size]
        head = self.prompt[begin : begin + size]
        return head + self.output[: size - len(head)]


def finished(sequence: Sequence, reason: str, now_us: int, *, digests: bytes = b"") -> Finished:
    """The one terminal message of an answer that was given, whole or not."""
    started = sequence.started_us or now_us
    decoding = sequence.decoding_us or now_us
    return Finished(
        request_id=sequence.request_id,
        reason=reason,  # type: ignore[arg-type]  # one of the three words
        prompt_tokens=sequence.num_prompt,
        completion_tokens=len(sequence.output),
        cached_tokens=sequence.num_cached,
        queue_us=max(0, started - sequence.arrived_us),
        prefill_us=max(0, decoding - started),
        decode_us=max(0, now_us - decoding),
        tokens=tuple(sequence.output) if sequence.setup is not None else (),
        digests=digests,
        stop=sequence.stop,
    )
