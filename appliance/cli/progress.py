"""A bar on standard error, for what takes long and for people only."""

from __future__ import annotations

import sys
import time

import click
import msgspec

from appliance.audit.verdict import Told

_FROM = 20_000
_FROM_BYTES = 500_000_000
_EVERY_SECONDS = 0.2
_WIDTH = 30


class Progress:
    """How far, how fast and how long still. Nothing where nobody looks, or where it is soon done.

    `for_programs`: a line of JSON each time instead, wherever standard error goes.
    """

    def __init__(
        self, word: str = "verifying", *, for_programs: bool = False, of_bytes: bool = False
    ) -> None:
        self._word = word
        self._of_bytes = of_bytes
        self._for_programs = for_programs
        self._begin: int | None = None
        self._began = 0.0
        self._told = 0.0

    def update(self, done: int, total: int) -> None:
        """Called every few thousand entries; first with where it begins."""
        now = time.monotonic()
        if self._begin is None:
            self._begin, self._began = done, now
        if not self._for_programs and (total - self._begin < self._from or not sys.stderr.isatty()):
            return
        is_end = done >= total
        if now - self._told < _EVERY_SECONDS and not is_end:
            return
        self._told = now
        if self._for_programs:
            click.echo(msgspec.json.encode(Told(done, total)).decode(), err=True)
            return
        drawn = line(done, total, self._begin, now - self._began, self._word, of_bytes=self._of_bytes)
        click.echo("\r" + drawn, err=True, nl=is_end)

    @property
    def _from(self) -> int:
        return _FROM_BYTES if self._of_bytes else _FROM


def line(
    done: int, total: int, begin: int, seconds: float, word: str = "verifying", *, of_bytes: bool = False
) -> str:
    """The bar after `seconds`, having begun at `begin`."""
    share = (done - begin) / (total - begin) if total > begin else 1.0
    rate = (done - begin) / seconds if seconds > 0 else 0.0
    left = f"{(total - done) / rate:4.0f} s left" if rate else ""
    bar = "#" * int(share * _WIDTH)
    speed = f"{rate / 1e6:7,.0f} MB/s" if of_bytes else f"{rate:9,.0f} entries/s"
    return f"{word} [{bar:-<{_WIDTH}}] {share:4.0%}  {speed}  {left:12}"
