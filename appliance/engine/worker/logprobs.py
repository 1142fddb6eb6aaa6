"""How likely a token was: log-probabilities of one row of logits. Pure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from appliance.engine.messages import Logprob

FLOOR = -9999.0  # stands for minus infinity, which JSON has no number for


def weigh(
    logits: npt.NDArray[np.float32], token: int, num_top: int, spell: Callable[[int], bytes]
) -> Logprob:
    """The chosen token under the model's own distribution, and the `num_top` likeliest ones, best first.

    That is the log-softmax of the logits as they were computed: before biases, penalties, temperature,
    a schema's mask or any other step of sampling. Of equally likely tokens the lower id comes first.
    """
    wide = logits.astype(np.float64)
    best = wide.max()
    shifted = wide - best if np.isfinite(best) else np.zeros_like(wide)
    total = np.log(np.exp(shifted).sum())

    def logprob(each: int) -> float:
        value = float(shifted[each] - total)
        return max(value, FLOOR) if value == value else FLOOR  # noqa: PLR0124 - not a number

    top: list[int] = []
    if num_top:
        size = min(num_top, len(logits))
        kept = np.flatnonzero(logits >= np.partition(logits, -size)[-size])  # ties at the border, too
        top = kept[np.lexsort((kept, -logits[kept]))][:size].tolist()
    return Logprob(spell(token), logprob(token), tuple((spell(each), logprob(each)) for each in top))
