"""Who may call: the keys of this appliance, in memory, as the database holds them.

The gateway is the only writer of their tables while it runs (`administration` writes a row and its
audit record in one transaction and then tells this directory), so a created, changed or revoked key takes
effect with the commit, without a restart. Owner of what is in here: the event loop's thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from appliance.accounts import keys
from appliance.accounts.keys import ApiKey
from appliance.core import Principal
from appliance.errors import Refused, RequestError

MAX_NAME_CHARACTERS = 64


class Directory:
    """API keys by id."""

    def __init__(self, known: Iterable[ApiKey] = ()) -> None:
        self._keys = {key.id: key for key in known}
        self._used_us: dict[str, int] = {}  # kept beside the database, advisorily (`uses`)

    def put(self, key: ApiKey) -> None:
        """Take over a key as it now stands in the database."""
        self._keys[key.id] = key

    def replace(self, known: Iterable[ApiKey]) -> None:
        """Take over every key as the database holds them."""
        self._keys = {key.id: key for key in known}

    def all(self) -> list[ApiKey]:
        """Every key ever made, oldest first."""
        return sorted(self._keys.values(), key=lambda key: (key.created_us, key.id))

    def authenticate(self, token: str, *, now_us: int) -> Principal:
        """The principal behind a token; Refused with one and the same message for every flaw."""
        presented = keys.parse(token)
        key = self._keys.get(presented.id) if presented else None
        # The comparison runs for unknown ids too, so that time does not tell which ids exist.
        genuine = presented is not None and keys.matches(presented, key)
        if not genuine or key is None or not key.is_active(now_us):
            raise Refused(
                "the API key is not valid",
                code="invalid_api_key",
                hint="send 'authorization: Bearer apk_…' with a key that is neither expired "
                "nor revoked; an administrator makes one with: appliance key create",
            )
        self._used_us[key.id] = now_us
        return Principal(key_id=key.id, name=key.name, role=key.role, terms=key.terms)

    def of_certificate(self, sha256: str, *, now_us: int) -> Principal | None:
        """The key that a certificate stands for, the newest while a rotation overlaps; or none."""
        found = [key for key in self._keys.values() if sha256 in key.terms.certificates]
        active = [key for key in found if key.is_active(now_us)]
        if not active:
            return None
        key = max(active, key=lambda each: (each.created_us, each.id))
        self._used_us[key.id] = now_us
        return Principal(key_id=key.id, name=key.name, role=key.role, terms=key.terms)

    def may_store(self, key_id: str) -> bool:
        """Whether a key may store responses: only where it was granted."""
        return key_id in self._keys and self._keys[key_id].stores_responses

    def last_use_us(self, key_id: str) -> int | None:
        """When this key was presented last, as far as that is known."""
        return self._used_us.get(key_id)

    def uses_us(self) -> dict[str, int]:
        """The last use of every key that was used."""
        return dict(self._used_us)

    def remember(self, uses_us: Mapping[str, int]) -> None:
        """Take over when keys were used before this start; nothing is known of keys that are not here."""
        self._used_us = {key_id: at for key_id, at in uses_us.items() if key_id in self._keys} | self._used_us

    def active_named(self, name: str, *, now_us: int) -> list[ApiKey]:
        """The keys in force under a name; more than one while a rotation overlaps."""
        return [key for key in self.all() if key.name == name and key.is_active(now_us)]

    def in_force(self, name_or_id: str, *, now_us: int) -> list[ApiKey]:
        """The key of this id, or all of this name, the oldest first; only what is in force. RequestError
        where there is none.
        """
        known = self._keys.get(name_or_id)
        found = [known] if known is not None else self.active_named(name_or_id, now_us=now_us)
        if not found or not all(each.is_active(now_us) for each in found):
            raise RequestError(
                "no active key has this name or id",
                code="key_not_found",
                hint="appliance key list shows names and ids",
            )
        return found

    def find(self, name_or_id: str, *, now_us: int) -> ApiKey:
        """One active key by id or by an unambiguous name. RequestError otherwise."""
        if name_or_id in self._keys:
            return self._keys[name_or_id]
        named = self.active_named(name_or_id, now_us=now_us)
        if len(named) == 1:
            return named[0]
        problem = "no active key has" if not named else "several active keys have"
        raise RequestError(
            f"{problem} this name or id",
            code="key_not_found",
            hint="appliance key list shows names and ids",
        )


def require_address(principal: Principal, address: str) -> None:
    """Refused where this key may not be used from here."""
    if not principal.terms.allows_address(address):
        raise Refused(
            "this key may not be used from this address",
            code="address_not_allowed",
            hint="an administrator changes from where: appliance key change",
        )


def check_name(name: str) -> str:
    """A key's or a person's name: short, printable, without control characters. RequestError otherwise."""
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS or not name.isprintable() or name != name.strip():
        raise RequestError(
            f"a name has 1 to {MAX_NAME_CHARACTERS} printable characters",
            code="invalid_name",
            param="name",
        )
    return name
