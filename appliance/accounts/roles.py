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
    SEE_HEALTH = "see_health"  # everything about the box but content
    MAKE_BACKUPS = "make_backups"
    MANAGE_KEYS = "manage_keys"
    MANAGE_ACCOUNTS = "manage_accounts"
    SIGN_ACTS = "sign_acts"  # erasures, ends of holds, key policies
    PLACE_HOLDS = "place_holds"
    SEARCH_AUDIT = "search_audit"
    SEE_AUDIT_STATUS = "see_audit_status"  # how the record stands, and never what is in it
    SEE_WITNESS = "see_witness"  # what a witness is shown, and where its word is handed in
    SEE_OWN_ACCOUNT = "see_own_account"  # of a person: sessions, second factor
    READ_AUDIT = "read_audit"  # of everybody's: search, and evidence that an identity opens


_RUNS = frozenset(
    {
        Permission.LIST_MODELS,
        Permission.SEE_READINESS,
        Permission.SEE_METRICS,
        Permission.SEE_HEALTH,
        Permission.MAKE_BACKUPS,
        Permission.MANAGE_KEYS,
        Permission.SEE_AUDIT_STATUS,
        Permission.SEE_OWN_ACCOUNT,
    }
)
_ASKS = frozenset({Permission.INFER, Permission.LIST_MODELS, Permission.SEE_READINESS, Permission.GET_PROOFS})
_GRANTS: dict[Role, frozenset[Permission]] = {
    Role.KIOSK: _ASKS,
    Role.DEVELOPER: _ASKS,  # the same acts; other limits, and nobody who walks past
    Role.OPERATOR: _RUNS,
    Role.ADMIN: _RUNS | {Permission.MANAGE_ACCOUNTS},
    # An auditor reads the log and nothing else; separation of duties forbids asking questions.
    Role.AUDITOR: frozenset(
        {
            Permission.SEE_READINESS,
            Permission.SEE_AUDIT_STATUS,
            Permission.SEE_OWN_ACCOUNT,
            Permission.SEARCH_AUDIT,
            Permission.READ_AUDIT,
            Permission.SIGN_ACTS,
            Permission.PLACE_HOLDS,
            Permission.SEE_WITNESS,
        }
    ),
    Role.PRIVACY: frozenset(
        {
            Permission.SEE_READINESS,
            Permission.SEE_OWN_ACCOUNT,
            Permission.SIGN_ACTS,
            Permission.PLACE_HOLDS,
        }
    ),
    Role.WITNESS: frozenset({Permission.SEE_READINESS, Permission.SEE_OWN_ACCOUNT, Permission.SEE_WITNESS}),
}


# Whose keys somebody may make and revoke at the console: nobody there gives away more than they have,
# but for admins, who make people's accounts too.
_KEYS: dict[Role, tuple[Role, ...]] = {
    Role.OPERATOR: (Role.KIOSK, Role.DEVELOPER, Role.OPERATOR),
    Role.ADMIN: tuple(Role),
}


def keys_of(role: Role) -> tuple[Role, ...]:
    """The roles of the API keys that this role manages."""
    return _KEYS.get(role, ())


def allows(role: Role, permission: Permission) -> bool:
    """Deny by default."""
    return permission in _GRANTS[role]
