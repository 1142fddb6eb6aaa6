"""Which pool a request goes to, in every situation: it fits there, and no other one knows more of it."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.question import Sampling
from appliance.engine.worker.routing import MIN_ROUTED_TOKENS, choose
from appliance.engine.worker.sequence import Sequence
from appliance.fitting import divide

GREEDY = Sampling(0.0, 1.0, 40, 0.0, 1.0, 0.0, 0.0, None, None, ())
LENGTHS = st.integers(0, 3 * MIN_ROUTED_TOKENS)


@dataclass(frozen=True)
class Room:
    """A pool that says what it has."""

    n_ctx: int
    length: int

    def in_hand(self, sequence: Sequence) -> int:
        return min(self.length, sequence.num_prompt)


def request(num_prompt: int, *, max_tokens: int = 1, num_system: int = 0) -> Sequence:
    return Sequence("a", [0] * num_prompt, max_tokens, GREEDY, num_system=num_system)


@given(
    size=st.integers(1, 3000),
    max_tokens=st.integers(1, 3000),
    num_system=LENGTHS,
    n_ctx_apart=st.integers(256, 4096),
    here=LENGTHS,
    there=LENGTHS,
)
def test_it_fits_and_nothing_is_computed_twice(
    size: int, max_tokens: int, num_system: int, n_ctx_apart: int, here: int, there: int
) -> None:
    """Apart only what can not outgrow it; and a known beginning goes where more of it is."""
    shared, apart = Room(8192, here), Room(n_ctx_apart, there)
    sequence = request(size, max_tokens=max_tokens, num_system=num_system)
    chosen = choose(sequence, shared, apart)
    known = {id(room): room.in_hand(sequence) for room in (shared, apart)}

    if size + max_tokens > n_ctx_apart:
        assert chosen is shared
    else:
        best = max(known.values())
        assert best < MIN_ROUTED_TOKENS or known[id(chosen)] == best


def test_a_system_message_is_meant_to_be_shared() -> None:
    """With a long one nobody knows yet it is shared; with none, or a word, it is apart."""
    shared, apart = Room(8192, 0), Room(8192, 0)

    assert choose(request(700, num_system=650), shared, apart) is shared
    assert choose(request(700, num_system=10), shared, apart) is apart


def test_the_first_words_of_a_template_decide_nothing() -> None:
    """A few tokens in common with everybody are no reason to go there."""
    template = MIN_ROUTED_TOKENS - 1

    assert choose(request(700), Room(8192, template), apart := Room(8192, 0)) is apart


@given(n_ctx=st.integers(256, 300_000), longest=st.integers(1, 300_000))
def test_cells_are_divided_and_the_longest_request_still_fits(n_ctx: int, longest: int) -> None:
    """Both pools together have what was asked for, and the shared one holds whatever the model takes."""
    shared, apart = divide(n_ctx, longest)

    assert shared + apart == n_ctx
    assert shared >= min(n_ctx, longest)
    assert shared >= apart >= 0
    assert apart == 0 or apart >= n_ctx // 4


def test_the_starter_model_has_two_pools() -> None:
    """The default pool is twice the longest request of the starter model: it is halved."""
    assert divide(16_384, 8192) == (8192, 8192)
    assert divide(16_384, 32_768) == (16_384, 0)
