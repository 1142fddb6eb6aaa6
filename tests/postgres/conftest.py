"""One cluster for the whole run, a database for each test, and `home` on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.config import Home
from tests.servers import Server, make_server_home
from tests.servers import server as started


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A started cluster that the tests share; whoever kills one starts one of its own."""
    with started() as running:
        yield running


@pytest.fixture
def database(server: Server) -> str:
    """An empty database."""
    return server.new_database()


@pytest.fixture
def home(tmp_path: Path, server: Server, database: str) -> Home:
    """The same as everywhere, with its record on the server."""
    return make_server_home(tmp_path / "home", server, database)
