"""What the running gateway says of itself at `/readyz`, for `appliance doctor`: the same codes and words."""

from __future__ import annotations

from appliance import asking
from appliance.commands import Look, Problem
from appliance.config import Home
from appliance.errors import ApplianceError, SetupError
from appliance.readiness import Trouble


def looks(home: Home) -> list[tuple[str, Trouble | None]]:
    """Each trouble under its code, or that there is none; nothing where no gateway runs."""
    try:
        answer = asking.send(home.control_socket, Look(), timeout_seconds=10)
    except SetupError as error:
        return [("gateway", Trouble(error.code, error.message, error.hint))]
    except PermissionError:
        hint = "run this as root, or as the service's user"
        return [("gateway", Trouble("not_permitted", "another user's gateway can not be asked", hint))]
    if answer is None:
        return []
    if isinstance(answer, Problem):
        return [("gateway", Trouble(answer.code, answer.message, answer.hint))]
    troubles = [Trouble(**each) for each in answer.result["troubles"]]
    if not any(each.stops for each in troubles):
        return [("gateway", None), *((each.code, each) for each in troubles)]
    return [(each.code, each) for each in troubles]


def problem_of(trouble: Trouble) -> ApplianceError:
    """A trouble that was found without a gateway, as a check tells it."""
    return SetupError(trouble.says, code=trouble.code, hint=trouble.hint)
