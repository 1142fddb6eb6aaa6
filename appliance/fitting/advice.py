"""What would change a plan: settings that would let a model fit, and how much is missing otherwise. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from appliance.fitting.estimate import Estimate, Kind, estimate
from appliance.fitting.plan import Machine, Plan, plan
from appliance.fitting.wanted import ALIGNMENT, Wanted

_MIB: Final = 1024 * 1024
_LEAST_CTX: Final = 512


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

    def fits(wanted: Wanted) -> bool:
        again = estimate(found.shape, wanted, on_host=n_gpu_layers == 0)
        return plan(again, machine, n_gpu_layers).fits

    told = []
    wanted = found.wanted
    if n_gpu_layers > 0 and plan(found, machine).fits:
        told.append(Change("engine.n_gpu_layers = -1 takes as many layers as fit", "n_gpu_layers", -1))
    if value := _largest(lambda n: fits(replace(wanted, n_ctx=n)), _LEAST_CTX, wanted.n_ctx, ALIGNMENT):
        told.append(Change(f"engine.n_ctx = {value} would fit", "n_ctx", value))
    if value := _largest(lambda n: fits(replace(wanted, n_batch=n)), 64, wanted.n_batch, 64):
        told.append(Change(f"engine.n_batch = {value} would fit", "n_batch", value))
    if value := _largest(lambda n: fits(replace(wanted, n_seq_max=n)), 1, wanted.n_seq_max, 1):
        told.append(Change(f"engine.n_seq_max = {value} would fit", "n_seq_max", value))
    told += _smaller_weights(found, made)
    missing = max(each.missing for each in made.rooms)
    told.append(Change(f"{_mib(missing)} MiB more memory would do"))
    return tuple(told)


def _smaller_weights(found: Estimate, made: Plan) -> list[Change]:
    """A smaller quantization, where the weights alone could make the difference."""
    weights = found.of(Kind.WEIGHTS)
    left = weights - made.host.missing
    if made.devices or left <= 0:
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
