"""Why a bundle is refused, each with the program's exit code. Scripts and guides rely on the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from appliance.errors import VerificationError


class Exit(IntEnum):
    """What `appliance bundle …`, `install.sh` and `verify.sh` end with (deploy/guides/bundles.md)."""

    DONE = 0
    DONE_RESTART = 10  # done; the host or the service must be restarted by hand
    BAD_METADATA = 11  # not in the format, too large, contradictory, hostile names
    EXPIRED = 12
    CLOCK_WRONG = 13  # this host's clock stands before something that is known to have been
    MISSING = 14  # a file, a part or a volume
    BAD_SIGNATURE = 15  # wrong key, too few signers, cut or altered signature
    WRONG_DIGEST = 16  # a file's bytes are not what was signed, or a file nobody signed lies there
    BAD_BASE = 17  # a delta's base, in this host's own store, is not what it was
    REVOKED = 18  # its signers took it back
    PREFLIGHT = 20
    WRONG_PLATFORM = 21
    DISK = 22  # full, or a medium that can not be read
    BUSY = 30  # another installation is under way
    MIGRATION_FAILED = 40  # rolled back
    UNHEALTHY = 41  # rolled back
    ROLLBACK_FAILED = 50
    DOWNGRADE = 102


_CODES: Final = {
    Exit.BAD_METADATA: "bundle_bad_metadata",
    Exit.EXPIRED: "bundle_expired",
    Exit.CLOCK_WRONG: "clock_wrong",
    Exit.MISSING: "bundle_incomplete",
    Exit.BAD_SIGNATURE: "bundle_bad_signature",
    Exit.WRONG_DIGEST: "bundle_wrong_digest",
    Exit.BAD_BASE: "bundle_bad_base",
    Exit.REVOKED: "bundle_revoked",
    Exit.PREFLIGHT: "preflight_failed",
    Exit.WRONG_PLATFORM: "wrong_platform",
    Exit.DISK: "disk_failed",
    Exit.BUSY: "install_busy",
    Exit.MIGRATION_FAILED: "migration_failed",
    Exit.UNHEALTHY: "release_unhealthy",
    Exit.ROLLBACK_FAILED: "rollback_failed",
    Exit.DOWNGRADE: "bundle_downgrade",
}


def some(names: Sequence[str], shown: int = 5) -> str:
    """The first of several names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


class BundleRefused(VerificationError):
    """A bundle, its medium or this host is not as it must be. `exit` is the program's exit code."""

    def __init__(self, exit_code: Exit, message: str, *, hint: str = "") -> None:
        super().__init__(message, code=_CODES[exit_code], hint=hint)
        self.exit = exit_code
