"""What somebody reads the record for, in their own words."""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.errors import RequestError

MIN_PURPOSE, MAX_PURPOSE, MAX_CASE = 3, 500, 100  # characters


@dataclass(frozen=True, slots=True)
class Why:
    """What somebody reads the record for. It names cases and sometimes people: sealed on the record.

    RequestError where it says nothing.
    """

    purpose: str = field(repr=False)
    case: str = field(default="", repr=False)  # the number of a case, where there is one

    def __post_init__(self) -> None:
        said = self.purpose.strip()
        if not MIN_PURPOSE <= len(said) <= len(self.purpose) <= MAX_PURPOSE or not self.purpose.isprintable():
            raise RequestError(
                f"a purpose has {MIN_PURPOSE} to {MAX_PURPOSE} printable characters",
                code="invalid_purpose",
                param="purpose",
                hint="say what the record is read for: it stands on the record",
            )
        if len(self.case) > MAX_CASE or not self.case.isprintable():
            raise RequestError(
                f"a case number has at most {MAX_CASE} printable characters",
                code="invalid_purpose",
                param="case",
            )


NOT_STATED = Why("not stated")  # of the program on the host, which does not insist
