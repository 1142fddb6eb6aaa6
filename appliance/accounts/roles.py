"""Which role may do what. A permission that a role does not name is refused."""

from __future__ import annotations

from enum import StrEnum

from appliance.core import Role


class Permission(StrEnum):
    """One kind of act at the HTTP border."""

    INFER = "infer"
    LIST_MODELS = "list_models"
    SEE_READINESS = "see_readiness"
    SEE_METRICS = "see_metrics"
    GET_PROOFS = "get_proofs"  # of own records


_GRANTS: dict[Role, frozenset[Permission]] = {
    Role.KIOSK: frozenset(
        {Permission.INFER, Permission.LIST_MODELS, Permission.SEE_READINESS, Permission.GET_PROOFS}
    ),
    Role.OPERATOR: frozenset({Permission.LIST_MODELS, Permission.SEE_READINESS, Permission.SEE_METRICS}),
    Role.ADMIN: frozenset({Permission.LIST_MODELS, Permission.SEE_READINESS, Permission.SEE_METRICS}),
    # An auditor reads the log and nothing else; separation of duties forbids asking questions.
    Role.AUDITOR: frozenset({Permission.SEE_READINESS}),
    Role.PRIVACY: frozenset({Permission.SEE_READINESS}),
}


def allows(role: Role, permission: Permission) -> bool:
    """Deny by default."""
    return permission in _GRANTS[role]
