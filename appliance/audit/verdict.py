"""What one reading of the whole record, or of its newest part, came to: as the log and commands carry it."""

from __future__ import annotations

import msgspec

from appliance.audit.report import Report, lines_of


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of `--progress`: how many entries are read, and of how many."""

    done: int
    total: int


class Verification(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one reading found. `begin` is 0 for a full one."""

    begin: int
    size: int
    root: str
    findings: list[str]
    findings_sha256: str
    duration_us: int

    @classmethod
    def of(cls, report: Report, duration_us: int) -> Verification:
        """From the verifier's report."""
        return cls(
            begin=report.begin,
            size=report.num_entries,
            root=report.root,
            findings=list(lines_of(report)),
            findings_sha256=report.findings_sha256,
            duration_us=duration_us,
        )
