"""Why a file is not taken: a value with a stable code and a reason. Each is on the record."""

from __future__ import annotations

from typing import Final

from appliance.errors import VerificationError

MAX_REASON: Final = 2000


class FileRefused(VerificationError):
    """What was offered is not taken into the store. `sha256`: of the file, where it was hashed."""

    def __init__(self, code: str, reason: str, *, hint: str = "", sha256: str = "") -> None:
        super().__init__(reason[:MAX_REASON], code=code, hint=hint)
        self.sha256 = sha256
