"""Where a record is: a URL, printed without its secrets; and no driver loaded that nobody asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from appliance import config, db
from appliance.config import Home
from appliance.databases import postgres_copy
from appliance.errors import SetupError

URLS = [
    "postgresql://gateway:canary-1@db.example:5433/log?sslmode=verify-full",
    "postgresql://gateway@db.example/log?password=canary-1",
    "postgres://gateway@/log?host=/run/postgresql&sslkey=k.pem&sslpassword=canary-1",
]


def settings_with(url: str) -> config.Settings:
    return config.parse(f'database_url = "{url}"\n[audit]\norigin = "box/audit/1"\n')


@pytest.mark.parametrize("url", URLS)
def test_printing_shows_no_password(url: str, tmp_path: Path) -> None:
    """Neither the settings nor the place that is made from them."""
    settings = settings_with(url)
    place = db.of(Home(root=tmp_path), settings, owner_url=url)
    said = f"{settings!r} {place} {place!r}"

    assert "canary" not in said
    assert "user=gateway" in said
    assert "dbname=log" in said
    assert place.dialect == "postgresql"


@pytest.mark.parametrize(
    "url", ["postgresql://x:canary-1@host:notaport/x y?nonsense=1", "postgresql://[canary-1"]
)
def test_url_that_libpq_refuses_is_not_quoted(url: str, tmp_path: Path) -> None:
    """What is wrong may be the password itself."""
    with pytest.raises(SetupError) as refused:
        db.of(Home(root=tmp_path), settings_with(url))

    assert refused.value.code == "bad_config"
    assert "canary" not in f"{refused.value.message} {refused.value.hint} {refused.value.__cause__}"


def test_owner_has_no_meaning_for_a_file(tmp_path: Path) -> None:
    """An option that would do nothing is an error."""
    with pytest.raises(SetupError):
        db.of(Home(root=tmp_path), config.Settings(), owner_url="postgresql://owner@/x")


def test_a_path_is_an_sqlite_file(tmp_path: Path) -> None:
    """A copy of a record is a file, whatever the home's own record is."""
    place = db.at(tmp_path / "copy.db")

    assert (place.dialect, place.file) == ("sqlite", tmp_path / "copy.db")
    assert str(place) == str(tmp_path / "copy.db")


def test_driver_is_loaded_where_it_is_asked_for() -> None:
    """An embedded log needs no libpq: the program, the gateway and the verifier come without it."""
    code = (
        "import sys, appliance.cli, appliance.cli.doctor, appliance.services, appliance.api.app\n"
        "assert not {'psycopg', 'psycopg_binary'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_password_file_is_private_and_escaped(tmp_path: Path) -> None:
    """In libpq's form, where a colon or a backslash in a password would end its field."""
    path = postgres_copy.passfile(tmp_path, "a:b\\c")

    assert path.read_text() == "*:*:*:*:a\\:b\\\\c\n"
    assert path.stat().st_mode & 0o077 == 0
