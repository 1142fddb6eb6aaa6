"""What `appliance doctor` says of a home's secrets: whether whoever has its disk has them, too."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from appliance import config, keyring, keyslots
from appliance.cli.secrets import in_the_clear
from appliance.config import Home
from appliance.egress import Finding, Level


def looks(home: Home) -> list[tuple[str, Finding, str]]:
    """Lines with their names, and what to do about each; none where the configuration can not be read."""
    found = [("secrets", *_sealed(home))]
    if _has_password(config.load(home).database_url):
        found.append(
            (
                "database password",
                Finding(Level.WARN, f"{home.config.name} holds the password of the database server"),
                "name a file with ?passfile=, or use a client certificate: deploy/guides/postgresql.md",
            )
        )
    return found


def _sealed(home: Home) -> tuple[Finding, str]:
    clear = in_the_clear(home)
    if not keyring.is_sealed(home):
        return (
            Finding(
                Level.WARN,
                f"{len(clear)} in the clear: whoever has this disk, or a copy of it, can sign as this log",
            ),
            "appliance secrets seal; an encrypted disk helps while it is closed: deploy/guides/secrets.md",
        )
    found = keyring.slots_of(home)
    ways = ", ".join(f"{each.name} ({each.kdf})" for each in found.ways)
    if found.state != "sealed":
        return (
            Finding(Level.FAIL, "half sealed: something was interrupted"),
            "appliance secrets finish; a gateway that starts does the same",
        )
    if clear == [f"keys/{keyring.RECOVERY}"]:
        return (
            Finding(Level.WARN, f"sealed, but {clear[0]} lies here in the clear; what opens them: {ways}"),
            "carry it to a safe, and delete it here",
        )
    if clear:
        return (
            Finding(Level.FAIL, f"a sealed home holds secrets in the clear: {', '.join(clear)}"),
            "the appliance put none of them there: find out who did",
        )
    return Finding(Level.OK, f"sealed; what opens them: {ways}"), ""


def is_looked_into(home: Home) -> bool:
    """Whether sealed files can be read without asking a person."""
    return keyring.can_unlock_by_itself(home)


def is_key_sealed(home: Home) -> bool:
    """Whether the server's own key is one that nobody opens here."""
    server = config.load(home).server
    return (
        bool(server.tls_key)
        and keyring.name_of(home, server.key) is not None
        and keyslots.is_sealed(server.key.read_bytes())
        and not is_looked_into(home)
    )


def _has_password(database_url: str) -> bool:
    if not config.is_server(database_url):
        return False
    parts = urlsplit(database_url)
    return parts.password is not None or not {"password", "sslpassword"}.isdisjoint(parse_qs(parts.query))
