"""Hosts for tests: a root folder each, signed bundles of `tests.fakes.release`, a service that runs."""

from __future__ import annotations

import ensurepip
import hashlib
import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import appliance
from appliance.bundle import folder, layout, manifest, signing
from appliance.bundle.install import journal
from appliance.bundle.install.steps import State
from appliance.bundle.layout import Site
from tests import bundles
from tests.signed import BUILT, Office, office, with_manifest

DEPLOY = Path(__file__).parent.parent / "deploy"
FAKE = Path(__file__).with_name("fakes") / "release.py"
# What the release's program runs with the system's Python, where its own is gone.
_REPAIRING = ("errors.py", "durable.py", "bundle/__init__.py", "bundle/layout.py",
              "bundle/refusals.py", "bundle/sums.py",
              "bundle/install/__init__.py", "bundle/install/release.py",
              "bundle/install/repair.py")  # fmt: skip
# Below another root a script of SysV's kind is told so; the real one is deploy/units/appliance.init.
INIT = """#!/bin/sh
home=$APPLIANCE_ROOT/var/lib/appliance/home
program=$APPLIANCE_ROOT/opt/appliance/current/bin/appliance
pid=$APPLIANCE_ROOT/run/appliance.pid said=$APPLIANCE_ROOT/run/appliance.out
running() { [ -f "$pid" ] && kill -0 "$(cat "$pid")" 2> /dev/null; }
case $1 in
  start) running && exit 0
    mkdir -p "$APPLIANCE_ROOT/run"
    setsid "$program" serve --home "$home" > "$said" 2>&1 < /dev/null & echo $! > "$pid"
    for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
      grep -q ^listening "$said" && exit 0
      running || { cat "$said"; exit 1; }
      sleep 0.2
    done; exit 1 ;;
  stop) running || exit 0
    kill "$(cat "$pid")"
    while running; do sleep 0.05; done ;;
  status) running || exit 3 ;;
esac
"""


def pip_wheel() -> Path:
    """The one that Python itself carries."""
    return next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))


def release(
    place: Path,
    who: Office,
    serial: int,
    *,
    schema: str = "0001",
    fails: Sequence[str] = (),
    upgrade_from: manifest.UpgradeFrom | None = None,
) -> Path:
    """A signed bundle of the fake release, as it lies in `staging/`."""
    model = bundles.tiny_model()
    package = Path(appliance.__file__).parent
    files = {
        "app/appliance/__main__.py": FAKE.read_bytes(),
        "app/appliance/fate.json": json.dumps({"schema": schema, "fails": list(fails)}).encode(),
        "app/models/tiny.toml": (
            f'id = "tiny"\nsha256 = "{hashlib.sha256(model).hexdigest()}"\nsize_bytes = {len(model)}\n'
        ).encode(),
        "app/deploy/units/appliance.init": INIT.encode(),
        f"wheels/{pip_wheel().name}": pip_wheel().read_bytes(),
        **{f"app/appliance/{name}": (package / name).read_bytes() for name in _REPAIRING},
    }
    bundles.tiny(
        place, serial=serial, release=f"1.{serial}.0", built=BUILT, files=files, upgrade_from=upgrade_from
    )
    for name in ("verify.sh", "install.sh", "ed25519_verify.py"):
        (place / name).write_bytes((DEPLOY / name).read_bytes())
    with_manifest(
        place, files=folder.describe_all(place), db=manifest.Database(alembic_head=schema, reads_since=schema)
    )
    folder.seal(place)
    signing.start(place, who.folder, 3000)
    for key in who.some:
        signing.sign(place, key)
    return place


@dataclass
class Host:
    """One host. `close` stops what it serves, by the id in its pid file."""

    root: Path
    who: Office = field(init=False)
    _made: dict[int, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root.mkdir(exist_ok=True)
        (self.root / "proc").symlink_to("/proc")  # the processor and the memory are this machine's
        self.site = Site(self.root)
        papers = self.root.parent / "papers"
        papers.mkdir(exist_ok=True)
        self.who = office(papers / "roots")

    def stage(self, serial: int, **options: object) -> Path:
        """A bundle in this host's staging folder."""
        place = self.site.staging / str(serial)
        place.parent.mkdir(parents=True, exist_ok=True)
        return release(place, self.who, serial, **options)  # type: ignore[arg-type]

    def run(self, *words: str, kill: str = "") -> subprocess.CompletedProcess[str]:
        """`appliance bundle WORDS`; `kill`: it kills itself behind this line of the journal."""
        quick = ["--probation-seconds", "0", "--probation-looks", "2", "--start-seconds", "3"]
        if words[0] in {"install", "upgrade", "rollback"}:
            words = (*words, *quick)
        return subprocess.run(
            [sys.executable, "-m", "tests.fakes.installer", kill, "bundle", *words, "--root", str(self.root)],
            capture_output=True,
            check=False,
            text=True,
            timeout=100,
            env={key: value for key, value in os.environ.items() if key != "APPLIANCE_HOME"},
        )

    def install(self, serial: int = 1, **options: object) -> None:
        """The first release of this host."""
        done = self.run("install", "--staged", str(self.stage(serial, **options)), *self.prints())
        assert done.returncode == 0, done.stderr

    def prints(self) -> list[str]:
        return [word for each in self.who.prints()[:2] for word in ("--fingerprint", each)]

    def current(self) -> int:
        """The serial of the release that `current` leads to; 0: none."""
        if not self.site.current.is_symlink():
            return 0
        return manifest.parse((self.site.current / layout.MANIFEST).read_bytes()).serial

    def ask(self) -> int:
        """A caller's question over HTTP: the status. A service that was just started may not listen yet."""
        deadline = time.monotonic() + 20
        while True:
            port = int((self.site.home / "port").read_text())
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                connection.request("POST", "/v1/chat/completions", b"{}")
                return connection.getresponse().status
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            finally:
                connection.close()

    def entries(self) -> list[str]:
        """The record, once its chain and its head were found whole."""
        subprocess.run(
            [str(self.site.current / "bin/appliance"), "audit", "verify", "--home", str(self.site.home)],
            check=True,
            capture_output=True,
        )
        with sqlite3.connect(self.site.home / "appliance.db") as database:
            return [text for (text,) in database.execute("SELECT text FROM entry ORDER BY seq")]

    def told(self) -> list[str]:
        """The entries about bundles: their kinds."""
        return [json.loads(each)["event"] for each in self.entries() if each.startswith("{")]

    def states(self) -> list[State]:
        return [line.state for line in journal.read(self.site.journal)]

    def close(self) -> None:
        try:
            os.kill(int((self.root / "run/appliance.pid").read_text()), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            return
