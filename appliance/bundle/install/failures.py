"""What goes wrong in a step, as the exit code that the program ends with. Pure."""

from __future__ import annotations

from typing import Final

from appliance.bundle.install.steps import State
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.errors import ApplianceError

_REFUSING: Final = frozenset({State.STAGED, State.VERIFIED, State.PREFLIGHTED})  # nothing was touched yet
_EXITS: Final = {
    State.STAGED: Exit.DISK,
    State.VERIFIED: Exit.DISK,
    State.PREFLIGHTED: Exit.PREFLIGHT,
    State.VENV_BUILT: Exit.DISK,
}


def refusal(error: BaseException, state: State) -> BundleRefused:
    """What went wrong, as an exit code: a refusal of its own, or what the step means."""
    if isinstance(error, BundleRefused):
        message, hint = error.message, error.hint
        if state in _REFUSING:
            return error
    elif isinstance(error, ApplianceError):
        message, hint = error.message, error.hint
    elif isinstance(error, OSError):
        message, hint = f"{error.strerror or error}: {error.filename or ''}", ""
    elif isinstance(error, KeyboardInterrupt):
        message, hint = "interrupted by the operator", ""
    else:
        message, hint = f"the installer itself failed: {type(error).__name__}: {error}"[:500], ""
    code = {State.MIGRATED: Exit.MIGRATION_FAILED}.get(state)
    if code is None:
        code = error.exit if isinstance(error, BundleRefused) else _EXITS.get(state, Exit.UNHEALTHY)
    return BundleRefused(code, message, hint=hint)
