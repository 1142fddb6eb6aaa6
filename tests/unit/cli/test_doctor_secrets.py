"""What doctor says of secrets that lie in the clear, without saying them."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import durable
from appliance.cli import doctor_secrets
from appliance.config import Home
from appliance.egress import Level


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with one key and a configuration."""
    made = Home(tmp_path)
    durable.make_private_dir(made.keys)
    durable.write_file(made.keys / "log.ed25519", bytes(range(32)))
    return made


@pytest.mark.parametrize(
    ("url", "is_told"),
    [
        ("sqlite", False),
        ("postgresql://gateway@db.example/x", False),
        ("postgresql://gateway:hunter22@db.example/x", True),
        ("postgresql://gateway@db.example/x?sslmode=verify-full&password=hunter22", True),
        ("postgresql://gateway@db.example/x?passfile=/etc/appliance/pgpass", False),
        ("postgresql://gateway@db.example/x?sslkey=/k&sslpassword=hunter22", True),
    ],
)
def test_a_password_of_the_server_is_a_warning(home: Home, url: str, *, is_told: bool) -> None:
    """Wherever libpq takes one in a URL; it is not repeated."""
    home.config.write_text(f'database_url = "{url}"\n')
    found = {name: (look, hint) for name, look, hint in doctor_secrets.looks(home)}
    assert ("database password" in found) == is_told
    assert "hunter22" not in repr(found)
    assert found["secrets"][0].level is Level.WARN


def test_a_home_in_the_clear_is_told(home: Home) -> None:
    """A home in the clear is a warning in every profile, with the number of its secrets."""
    home.config.write_text("")
    ((name, look, hint),) = doctor_secrets.looks(home)
    assert (name, look.level, look.says.split()[0]) == ("secrets", Level.WARN, "1")
    assert "appliance secrets seal" in hint
