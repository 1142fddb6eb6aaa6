"""How much memory models may have on this machine, and what one of them needs (`fitting`)."""

from __future__ import annotations

from typing import Final

from appliance.core import ModelSpec
from appliance.engine import fits, wire
from appliance.engine_settings import Engine
from appliance.errors import RequestError
from appliance.fitting.machine import read_machine

_MIB: Final = 1 << 20
_RESERVE: Final = (512 * _MIB, 8192 * _MIB)  # of the machine, for the gateway, its log and the system


def budget_of(settings: Engine) -> int:
    """Bytes for all models together: `engine.memory_mib`, or the machine's memory less a reserve.

    The machine's is what the kernel says, or less where a control group has a limit. The reserve is an
    eighth, at least 512 MiB and at most 8 GiB.
    """
    if settings.memory_mib:
        return settings.memory_mib * _MIB
    total = read_machine().total_bytes
    return max(0, total - min(max(total // 8, _RESERVE[0]), _RESERVE[1]))


def needed_by(spec: ModelSpec, settings: Engine) -> int:
    """Bytes that a worker with this model is reckoned to hold when it is ready. Reads its header.

    What it comes to hold besides, for spilled prefixes or a first embedding, counts once it does.

    RequestError `bad_model` where that can not be believed.
    """
    found = fits.reckoned(wire.load_message(spec, settings, None, thorough=False))
    if found is None:
        raise RequestError(f"{spec.id}: its header can not be read", code="bad_model")
    return found.loaded_bytes
