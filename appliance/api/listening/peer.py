"""What a connection tells the application about itself. Lives in `scope["state"]["wire"]`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from appliance.errors import ApplianceError
from appliance.tls.certificates import About


@dataclass(slots=True)
class Wire:
    """One request's side of its connection. Owner: the connection."""

    certificate: About | None = None  # that the client showed, and an authority of ours has signed
    problem: ApplianceError | None = None  # what is wrong with the rest of the body; empty: nothing so far


def wire_of(scope: Any) -> Wire:
    """What the connection said; nothing where there is none, as in a call from inside."""
    found = scope.get("state", {}).get("wire")
    return found if isinstance(found, Wire) else Wire()
