"""Who may call: the keys of this appliance, in memory, as the database holds them.

The gateway is the only writer of the table while it runs (`administration` writes a row and its
audit record in one transaction and then tells this directory), so a created or revoked key takes
effect with the commit, without a restart. Owner of `_keys`: the event loop's thread.
"""

from __future__ import annotations

from collections.abc import Iterable

from appliance.accounts import keys
from appliance.accounts.keys import ApiKey
from appliance.core import Principal
from appliance.errors import Refused, RequestError

MAX_NAME_CHARACTERS = 64


class Directory:
    """API keys by id."""

    def __init__(self, known: Iterable[ApiKey] = ()) -> None:
        self._keys = {key.id: key for key in known}
        self._used_us: dict[str, int] = {}  # since the start; the record knows of longer ago

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
        return Principal(key_id=key.id, name=key.name, role=key.role)

    def may_store(self, key_id: str) -> bool:
        """Whether a key may store responses: only where it was granted."""
        return key_id in self._keys and self._keys[key_id].stores_responses

    def last_use_us(self, key_id: str) -> int | None:
        """When this key was presented last since the start."""
        return self._used_us.get(key_id)

    def active_named(self, name: str, *, now_us: int) -> list[ApiKey]:
        """The keys in force under a name; more than one while a rotation overlaps."""
        return [key for key in self.all() if key.name == name and key.is_active(now_us)]

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


def check_name(name: str) -> str:
    """A key's or a person's name: short, printable, without control characters. RequestError otherwise."""
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS or not name.isprintable() or name != name.strip():
        raise RequestError(
            f"a name has 1 to {MAX_NAME_CHARACTERS} printable characters",
            code="invalid_name",
            param="name",
        )
    return name
