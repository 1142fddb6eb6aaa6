"""Token pieces → text, at UTF-8 borders, with stop strings held back and never emitted.

Splitting the same bytes differently gives the same text: what comes out depends on the whole only.
"""

from __future__ import annotations

import codecs


class Detokenizer:
    """One sequence's text. Owner: the step thread."""

    def __init__(self, stop: tuple[str, ...] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop = stop
        self._held = ""  # could still become a stop string
        self.is_stopped = False
        self.met = ""  # the stop string that ended the text

    def add(self, piece: bytes) -> str:
        """The text that is safe to send after this piece. Sets `is_stopped` at a stop string."""
        return self._release(self._decoder.decode(piece))

    def finish(self) -> str:
        """The rest: half characters become U+FFFD, a held beginning of a stop string is text."""
        text = self._release(self._decoder.decode(b"", final=True))
        rest, self._held = self._held, ""
        return text + ("" if self.is_stopped else rest)

    def _release(self, text: str) -> str:
        if self.is_stopped:
            return ""
        if not self._stop:
            return text
        text = self._held + text
        # The stop that completes first wins; of two that complete together, the longer one.
        found = [(at + len(stop), at, stop) for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            self.is_stopped = True
            self._held = ""
            _, begin, self.met = min(found)
            return text[:begin]
        keep = max(_overlap(text, stop) for stop in self._stop)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` are a proper beginning of `stop`."""
    for size in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
