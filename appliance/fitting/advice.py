"""What would change a plan: settings that would let a model fit, and how much is missing otherwise. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from appliance.fitting.estimate import Estimate, Kind, estimate
from appliance.fitting.plan import Machine, Plan, plan
from appliance.fitting.wanted import ALIGNMENT

_MIB: Final = 1024 * 1024
_LEAST_CTX: Final = 512
_SMALLEST: Final = 8  # 16-bit floats to some two bits: no quantization is smaller


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that would do: a setting's name and value, or nothing but the words."""

    words: str
    setting: str = ""
    value: int = 0


def changes(found: Estimate, machine: Machine, n_gpu_layers: int) -> tuple[Change, ...]:
    """What would let it fit, the least loss first. Empty where it fits."""
    made = plan(found, machine, n_gpu_layers)
    if made.fits:
        return ()
    told = []
    wanted = found.wanted
    if n_gpu_layers > 0 and plan(found, machine).fits:
        told.append(Change("engine.n_gpu_layers = -1 takes as many layers as fit", "n_gpu_layers", -1))
    for name, least, most, step in (
        ("n_ctx", _LEAST_CTX, wanted.n_ctx, ALIGNMENT),
        ("n_batch", 64, wanted.n_batch, 64),
        ("n_seq_max", 1, wanted.n_seq_max, 1),
    ):
        if value := _largest(_tried(found, machine, n_gpu_layers, name), least, most, step):
            told.append(Change(f"engine.{name} = {value} would fit", name, value))
    told += _smaller_weights(found, made)
    missing = max(each.missing for each in made.rooms)
    told.append(Change(f"{_mib(missing)} MiB more memory would do"))
    return tuple(told)


def most_cells(found: Estimate, machine: Machine, n_gpu_layers: int) -> int:
    """The largest `n_ctx` that would fit, up to what all sequences at once could use; 0 where none does."""
    most = found.shape.n_ctx_train * found.wanted.n_seq_max + ALIGNMENT
    return _largest(_tried(found, machine, n_gpu_layers, "n_ctx"), _LEAST_CTX, most, ALIGNMENT)


def _tried(found: Estimate, machine: Machine, n_gpu_layers: int, name: str) -> Callable[[int], bool]:
    """Whether it would fit with another value of a setting."""

    def fits(value: int) -> bool:
        options: dict[str, Any] = {name: value}
        again = estimate(found.shape, replace(found.wanted, **options), on_host=n_gpu_layers == 0)
        return plan(again, machine, n_gpu_layers).fits

    return fits


def _smaller_weights(found: Estimate, made: Plan) -> list[Change]:
    """A smaller quantization, where the weights alone could make the difference."""
    weights = found.of(Kind.WEIGHTS)
    left = weights - made.host.missing
    if made.devices or left < weights // _SMALLEST:
        return []
    return [Change(f"a quantization of at most {left // _MIB} MiB would fit (this one has {_mib(weights)})")]


def _largest(fits: Callable[[int], bool], least: int, most: int, step: int) -> int:
    """The largest multiple below `most` that fits; 0 where none does. Less never needs more."""
    low, high = -(-least // step), (most - 1) // step
    if high < low or not fits(low * step):
        return 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle * step) else (low, middle - 1)
    return low * step


def _mib(size: int) -> int:
    return -(-size // _MIB)
