"""Which tokens stand behind which part of an answer.

A model's log-probabilities are of the text as it wrote it, thoughts and marks of calls with it. Callers
get those of what is said to them. A token that two parts share belongs to the first of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.core import CallPart, Part, TokenLogprob


class Tokens:
    """Tokens that no part has been found for yet, in their order."""

    def __init__(self) -> None:
        self._waiting: list[TokenLogprob] = []
        self._skip = 0  # bytes at the beginning that a part has taken, of a token that is not done

    def add(self, tokens: Sequence[TokenLogprob]) -> None:
        """More of them; they may be ahead of the text."""
        self._waiting += tokens

    def of(self, part: Part) -> list[TokenLogprob]:
        """The tokens of a part, as `take` finds them."""
        return self.take(part.arguments if isinstance(part, CallPart) else part.text)

    def take(self, text: str) -> list[TokenLogprob]:
        """The tokens whose first byte stands in a part's text; those before it were marks, and are dropped.

        Nothing where the tokens do not spell the text: half a character, or arguments told anew.
        """
        wanted = text.encode("utf-8")
        spelt = b"".join(each.token for each in self._waiting)
        begin = spelt.find(wanted, self._skip)
        if not wanted or begin < 0:
            return []
        end = begin + len(wanted)
        found: list[TokenLogprob] = []
        num_done = at = 0
        for each in self._waiting:
            after = at + len(each.token)
            if begin <= at < end and at >= self._skip:
                found.append(each)
            if after > end:
                break
            num_done += 1
            at = after
        del self._waiting[:num_done]
        self._skip = end - at
        return found
