"""Permissions as a dependency: a route without one fails the house test, not just the review."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, Request

from appliance.accounts.roles import Permission, allows
from appliance.api.border import visit_of
from appliance.errors import Refused


def require(permission: Permission) -> Any:
    """A dependency that refuses principals whose role does not grant `permission`."""

    async def check(request: Request) -> None:
        principal = visit_of(request.scope).known_principal
        if not allows(principal.role, permission):
            raise Refused(f"the role of this key does not allow to {permission.replace('_', ' ')}")

    check.permission = permission  # type: ignore[attr-defined]  # read by tests/house
    return Depends(check)
