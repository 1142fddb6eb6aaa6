"""What opens a sealed home: where its secret comes from, and the home's keys once it was given.

A `Home` carries one of these to everybody who reads a secret file (`keyring`), so that people are asked once,
and only where a secret is needed. Where the secret comes from is said by whoever makes the `Home`: systemd's
folder of credentials, a file, or the terminal.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

CREDENTIAL: Final = "appliance-home-key"  # its name in $CREDENTIALS_DIRECTORY

Ask = Callable[[], str]


class Unlocking:
    """Sources, in the order that they are tried, and what they opened. Owner: the `Home` that holds it."""

    def __init__(self, credential: Path | None = None) -> None:
        self.credential = credential  # a file of systemd's; it need not be there
        self.given: Ask | None = None  # a file that somebody named
        self.ask: Ask | None = None  # a person at a terminal
        self.asks: int = 3  # how often they may mistype
        self.lock = threading.RLock()
        # Of this home, once it was opened: keys by their ids, the one for what is written, and whether files
        # are on their way into their envelopes or out of them.
        self.keys: dict[str, bytes] = {}
        self.current = ""
        self.state = ""

    def forget(self) -> None:
        """The next secret asks again."""
        with self.lock:
            self.keys, self.current, self.state = {}, "", ""

    def __repr__(self) -> str:
        """Without the keys."""
        return "Unlocking()"
