"""A PostgreSQL server of our own: a fresh cluster on a unix socket, a database for each test.

PostgreSQL refuses to run as root; then the cluster belongs to another user of this host.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from appliance.cli.init import initialise
from appliance.config import Home
from tests.needed import missing
from tests.starter import link_into

ADMIN = "admin"  # the cluster's superuser
OWNER = "owner"  # may make roles and schemas
GATEWAY = "gateway"  # may log in
START_SECONDS = 30.0
SETTINGS = {
    "listen_addresses": "''",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "logging_collector": "off",
    "log_min_messages": "fatal",
}
_numbers = itertools.count(1)


def binaries() -> Path | None:
    """Where the server's programs lie: on PATH, or where Debian puts them."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).resolve().parent] if on_path else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((each for each in found if (each / "postgres").is_file()), None)


@dataclass
class Server:
    """One cluster. `kill` ends the process that it started, by id."""

    root: Path
    bin: Path
    user: str | None  # whom the cluster belongs to, where we are root
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """A fresh cluster. What it writes at its birth need not be durable; what it writes later is."""
        self._run(
            "initdb", "--no-sync", "-A", "trust", "-U", ADMIN, "-E", "UTF8", "--locale=C",
            "-D", str(self.root / "data"),
        )  # fmt: skip

    def start(self) -> None:
        """Start, or start again behind a kill, whose last processes may still be ending."""
        settings = {**SETTINGS, "unix_socket_directories": f"'{self.root}'", **self.settings}
        options = [f"-c{name}={value.strip(chr(39))}" for name, value in settings.items()]
        deadline = time.monotonic() + START_SECONDS
        with (self.root / "log").open("ab") as log:
            while True:
                self.process = subprocess.Popen(
                    [str(self.bin / "postgres"), "-D", str(self.root / "data"), *options],
                    stdout=log,
                    stderr=log,
                    user=self.user,
                    start_new_session=True,
                )
                while self.process.poll() is None and not self._answers():
                    assert time.monotonic() < deadline, (self.root / "log").read_text()
                    time.sleep(0.03)
                if self.process.poll() is None:
                    return
                assert time.monotonic() < deadline, (self.root / "log").read_text()
                time.sleep(0.1)

    def stop(self) -> None:
        """SIGQUIT: at once; nobody needs the cluster any more."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(30)

    def kill(self) -> None:
        """SIGKILL of the postmaster: its children end themselves."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def url(self, user: str, database: str) -> str:
        """As an operator would write it."""
        return f"postgresql://{user}@/{database}?host={quote(str(self.root), safe='')}"

    def connect(self, database: str = "postgres", user: str = ADMIN, **more: Any) -> psycopg.Connection[Any]:
        """Behind the appliance's back, as the superuser unless told otherwise."""
        return psycopg.connect(self.url(user, database), autocommit=True, **more)

    def new_database(self) -> str:
        """An empty database in which the owner may make schemas."""
        name = f"test_{next(_numbers)}"
        with self.connect() as admin:
            admin.execute(f"CREATE DATABASE {name}")
            admin.execute(f"GRANT CREATE ON DATABASE {name} TO {OWNER}")
        return name

    def _answers(self) -> bool:
        try:
            with self.connect(connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.bin / program), *arguments],
            user=self.user,
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def server(**settings: str) -> Iterator[Server]:
    """A started cluster with the roles of a site. Skips without binaries, but fails on the build server."""
    found = binaries()
    if found is None:
        missing("PostgreSQL's programs are not installed (Debian: apt install postgresql)")
    user = (
        next((name for name in ("postgres", "nobody") if _exists(name)), None) if os.getuid() == 0 else None
    )
    # Short, for a socket's path; and below /tmp, since another user has to reach it.
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as directory:
        root = Path(directory)
        if user is not None:
            shutil.chown(root, user)
        running = Server(root, found, user, settings)
        running.make()
        running.start()
        try:
            with running.connect() as admin:
                admin.execute(f"CREATE ROLE {OWNER} LOGIN CREATEROLE")
                admin.execute(f"CREATE ROLE {GATEWAY} LOGIN")
            yield running
        finally:
            running.stop()


def make_server_home(
    root: Path, running: Server, database: str, *, toml: str = "", owner_url: str = ""
) -> Home:
    """A dev home whose record lies on the server; set up by the owner, written by the gateway's login."""
    home = Home(root=root)
    url = running.url(GATEWAY, database)
    if toml:
        root.mkdir(mode=0o700)
        home.config.write_text(f'database_url = "{url}"\n{toml}', encoding="utf-8")
    owner_url = owner_url or running.url(OWNER, database)
    initialise(home, profile="dev", database_url=url, owner_url=owner_url)
    link_into(home)
    return home


def _exists(user: str) -> bool:
    try:
        return bool(pwd.getpwnam(user))
    except KeyError:
        return False
