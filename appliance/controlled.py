"""What this host's program is told of keys and accounts, as JSON's own values (`control.py`)."""

from __future__ import annotations

from typing import Any

from appliance.accounts import terms_form
from appliance.accounts.accounts import Account
from appliance.accounts.directory import Directory
from appliance.accounts.entrances import Entrance
from appliance.accounts.keys import ApiKey
from appliance.administration import Made
from appliance.admitting import Admitting
from appliance.core import Principal
from appliance.people import MadeAccount


def of_key(key: ApiKey, directory: Directory, admitting: Admitting | None = None) -> dict[str, Any]:
    """Everything about a key but its secret. Times in microseconds, UTC; `today` while a gateway runs."""
    usage = None
    if admitting is not None:
        usage = admitting.usage(Principal(key.id, key.name, key.role, key.terms))
    return {
        "id": key.id,
        "name": key.name,
        "role": str(key.role),
        "created_us": key.created_us,
        "expires_us": key.expires_us,
        "revoked_us": key.revoked_us,
        "stores_responses": key.stores_responses,
        "last_use_us": directory.last_use_us(key.id),
        "terms": terms_form.plain(key.terms),
        "today": None
        if usage is None or not usage.is_known
        else {
            "requests": usage.requests_today,
            "tokens": usage.tokens_today,
            "answers_at_once": usage.at_once,
        },
    }


def of_new(made: Made) -> dict[str, Any]:
    """A new key with its secret, and what becomes of those that it replaces."""
    key = made.new.key
    return {
        "id": key.id,
        "name": key.name,
        "role": str(key.role),
        "expires_us": key.expires_us,
        "stores_responses": key.stores_responses,
        "terms": terms_form.plain(key.terms),
        "token": made.new.token,
        "replaced": list(made.replaced),
        "replaced_until_us": made.until_us,
        "record": made.receipt.record,
    }


def of_account(made: MadeAccount) -> dict[str, Any]:
    """A new account with its passphrase for the first log-in."""
    return {
        "id": made.account.id,
        "name": made.account.name,
        "role": str(made.account.role),
        "expires_us": made.account.expires_us,
        "passphrase": made.passphrase,
        "record": made.receipt.record,
    }


def of_person(known: Account, entrance: Entrance) -> dict[str, Any]:
    """A person, as the list has them. Times in microseconds, UTC."""
    return {
        "id": known.id,
        "name": known.name,
        "role": str(known.role),
        "must_change": known.must_change,
        "created_us": known.created_us,
        "expires_us": known.expires_us,
        "disabled_us": known.disabled_us,
        "second_factor": entrance.factor is not None,
        "entered_us": entrance.entered_us,
    }
