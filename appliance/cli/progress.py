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
        self,
        word: str = "verifying",
        *,
        for_programs: bool = False,
        of_bytes: bool = False,
        of: str = "entries",
        least: int | None = None,
    ) -> None:
        """`of`: what is counted. `least`: from how many on there is a bar, where few take long already."""
        self._word = word
        self._of_bytes = of_bytes
        self._of = of
        self._least = least
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
        seconds = now - self._began
        drawn = line(done, total, self._begin, seconds, self._word, of_bytes=self._of_bytes, of=self._of)
        click.echo("\r" + drawn, err=True, nl=is_end)

    @property
    def _from(self) -> int:
        if self._least is not None:
            return self._least
        return _FROM_BYTES if self._of_bytes else _FROM


def line(
    done: int,
    total: int,
    begin: int,
    seconds: float,
    word: str = "verifying",
    *,
    of_bytes: bool = False,
    of: str = "entries",
) -> str:
    """The bar after `seconds`, having begun at `begin`."""
    share = (done - begin) / (total - begin) if total > begin else 1.0
    rate = (done - begin) / seconds if seconds > 0 else 0.0
    left = f"{(total - done) / rate:4.0f} s left" if rate else ""
    bar = "#" * int(share * _WIDTH)
    speed = f"{rate / 1e6:7,.0f} MB/s" if of_bytes else f"{rate:9,.{_digits(rate)}f} {of}/s"
    return f"{word} [{bar:-<{_WIDTH}}] {share:4.0%}  {speed}  {left:12}"


def _digits(rate: float) -> int:
    """Behind the point, where whole numbers would say nothing."""
    return 0 if rate >= 10 or not rate else 2
