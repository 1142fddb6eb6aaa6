"""What a process that tries a file says against it."""

from __future__ import annotations


class ObjectionError(Exception):
    """The file is not taken: a stable code, and a reason for people."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason[:1000]
