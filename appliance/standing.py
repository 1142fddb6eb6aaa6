"""How a model is, for people and for whoever asks it; and loads that failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from appliance.core import ModelSpec
from appliance.errors import ApplianceError, RequestError, Unavailable
from appliance.policy.residency import TooLarge

FIRST_BACKOFF_SECONDS: Final = 2.0
_LONGEST_SECONDS: Final = 600  # that a caller is told to wait
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Standing:
    """`state`: ready, loading, unloaded, unloading, failed, or too_large."""

    state: str
    says: str = ""
    retry_after_seconds: int = 2

    @property
    def can_be_asked(self) -> bool:
        """A question to it is answered, if perhaps after a load."""
        return self.state not in {"failed", "too_large"}


def of_too_large(found: TooLarge) -> Standing:
    """With the numbers."""
    needed, room = -(-found.num_bytes // _MIB), found.room_bytes // _MIB
    return Standing("too_large", f"it needs {needed} MiB of memory, and there are {room} MiB for it")


def refusal(spec: ModelSpec, standing: Standing) -> ApplianceError:
    """What is said to those who wait for a model that can not be had."""
    if standing.state == "too_large":
        return RequestError(
            f"{spec.id} does not fit: {standing.says}", code="model_does_not_fit", param="model"
        )
    return Unavailable(
        f"{spec.id} can not be loaded at the moment",
        code="model_not_ready",
        retry_after_seconds=standing.retry_after_seconds,
    )


@dataclass(frozen=True, slots=True)
class _Failure:
    until_us: int
    seconds: float


class Failures:
    """Loads that failed: no other one is tried before a while, which doubles. Owner: the fleet."""

    def __init__(self, longest_seconds: int) -> None:
        self._longest_seconds = longest_seconds
        self._failures: dict[str, _Failure] = {}

    def note(self, model_id: str, now_us: int) -> None:
        """One more. What was given up stays so."""
        before = self._failures.get(model_id)
        if before is not None and before.until_us > now_us + _LONGEST_SECONDS * 1_000_000:
            return
        seconds = min(before.seconds * 2 if before else FIRST_BACKOFF_SECONDS, self._longest_seconds)
        self._failures[model_id] = _Failure(now_us + int(seconds * 1e6), seconds)

    def give_up(self, model_id: str, now_us: int) -> None:
        """No other one is tried at all: somebody has to look first."""
        self._failures[model_id] = _Failure(now_us + (1 << 60), self._longest_seconds)

    def forget(self, model_id: str) -> None:
        """It is loaded, or is to be tried at once."""
        self._failures.pop(model_id, None)

    def is_over(self, model_id: str, now_us: int) -> bool:
        """It may be tried."""
        failure = self._failures.get(model_id)
        return failure is None or failure.until_us <= now_us

    def left_seconds(self, model_id: str, now_us: int) -> int:
        """Whole seconds until then, as a caller is told them."""
        failure = self._failures.get(model_id)
        left_us = failure.until_us - now_us if failure is not None else 0
        return min(_LONGEST_SECONDS, max(2, -(-left_us // 1_000_000)))

    def next_us(self, now_us: int) -> int | None:
        """When the next one may be tried."""
        return min(
            (each.until_us for each in self._failures.values() if each.until_us > now_us), default=None
        )
