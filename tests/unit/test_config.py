"""Settings: strict, named, with units."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import config
from appliance.config import Home, Settings
from appliance.errors import SetupError


def test_empty_configuration_is_the_defaults() -> None:
    """Nothing has to be said."""
    assert config.parse("") == Settings()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour = 1", "unknown field `colour`"),
        ("[server]\ncolour = 1", "$.server"),
        ("[server]\nport = 70000", "$.server.port"),
        ('[server]\nport = "8080"', "$.server.port"),
        ("[audit]\nsegment_ms = 1", "$.audit.segment_ms"),
        ('[audit]\nstream = "fast"', "$.audit.stream"),
        ('[audit]\norigin = "Two Words"', "$.audit.origin"),
        ("not toml", "not valid TOML"),
        ('[server]\ntls_key = "k"', "go together"),
        ('profile = "production"', "TLS"),
        ('database_url = "mysql://x"', "database_url"),
        ("[engine]\nn_batch = 64\nn_seq_max = 64\nn_ctx = 0", "$.engine.n_ctx"),
    ],
)
def test_mistakes_are_named_by_their_place(text: str, says: str) -> None:
    """A wrong key, type or value is a SetupError that says which."""
    with pytest.raises(SetupError) as problem:
        config.parse(text)
    assert says in problem.value.message


def test_home_comes_from_option_then_environment_then_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--home` wins over $APPLIANCE_HOME, which wins over ./var."""
    monkeypatch.setenv("APPLIANCE_HOME", "/srv/box")
    assert config.find_home("/x").root == Path("/x")
    assert config.find_home(None).root == Path("/srv/box")
    monkeypatch.delenv("APPLIANCE_HOME")
    assert config.find_home(None).root == Path.cwd() / "var"


def test_home_without_configuration_says_what_to_run(tmp_path: Path) -> None:
    """An empty directory is no home."""
    with pytest.raises(SetupError) as problem:
        config.load(Home(root=tmp_path))
    assert (problem.value.code, "appliance init" in problem.value.hint) == ("not_initialised", True)
