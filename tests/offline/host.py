"""A bare host and the people around it: the operator with a stick, kiosks, an auditor. Each method is an act.

What they type is what the guides say; programs run in the box, or on a machine of its LAN.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.offline.box import Box, Done
from tests.offline.lan import BOX, TEMPTING, Lan
from tests.offline.releases import Sticks
from tests.offline.roots import System

PROGRAM: Final = "/opt/appliance/current/bin/appliance"
HOME: Final = "/var/lib/appliance/home"
STATE: Final = "/var/lib/appliance"
INIT: Final = "/etc/init.d/appliance"
KIOSK: Final = Path(__file__).with_name("kiosk.py")
PORT: Final = 8080
INSTALL_SECONDS: Final = 300
# Short for the suite: three good looks in three seconds.
PROBATION: Final = ("--probation-seconds", "3", "--probation-looks", "3")
_CALLERS: Final = 2
_LOAD_SECONDS: Final = 240


@dataclass(frozen=True, slots=True)
class Load:
    """Kiosks that ask all the time. `lines` is what they said, an attempt a line."""

    process: subprocess.Popen[bytes]
    output: Path
    stop_file: Path

    def attempts(self) -> list[dict[str, Any]]:
        text = self.output.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def wait_for_answers(self, count: int, seconds: float = 60) -> None:
        """Until so many more were answered: the appliance is under load now, or serves again."""
        wanted = len(answered(self.attempts())) + count
        deadline = time.monotonic() + seconds
        while len(answered(self.attempts())) < wanted:
            assert time.monotonic() < deadline, f"no {count} answers in {seconds} s: {self.attempts()[-5:]}"
            time.sleep(0.1)

    def stop(self) -> list[dict[str, Any]]:
        """Every attempt."""
        self.stop_file.touch()
        assert self.process.wait(90) == 0, self.output.with_suffix(".err").read_text()
        return self.attempts()


def answered(attempts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in attempts if each.get("status") == 200]


def seq_of(record: str) -> int:
    """The number of an entry, from `<origin>/<seq>`."""
    return int(record.rpartition("/")[2])


@dataclass
class Host:
    """One box's life. `failed` names the first step that did not go well: the others have no ground then."""

    system: System
    box: Box
    sticks: Sticks
    network: Lan | None = None  # none: the kiosks are in the box
    key: str = ""
    failed: str = ""
    guilty: list[Path] = field(default_factory=list)  # traces of what was made to call home
    num_leaked: int = 0  # packets of it
    times: dict[str, float] = field(default_factory=dict)  # seconds, of acts
    counts: dict[str, Mapping[str, int]] = field(default_factory=dict)  # how kiosks' attempts ended

    # --- the operator ---------------------------------------------------------------------------------------

    def operator(
        self, *words: str, seconds: float = INSTALL_SECONDS, expect: int | None = 0, stdin: str = ""
    ) -> Done:
        """Root types a command. The environment invites every habit of fetching."""
        return self.box.run(*words, seconds=seconds, env=TEMPTING, expect=expect, stdin=stdin)

    def take(self, medium: str, serial: int) -> str:
        """The medium's content in staging, taken by the release that serves."""
        self.operator(PROGRAM, "bundle", "import", f"/media/{medium}")
        return f"{STATE}/staging/{serial}"

    def upgrade(self, staged: str, *words: str, expect: int | None = 0) -> Done:
        words = ("--staged", staged, *PROBATION, *words)
        return self.operator(PROGRAM, "bundle", "upgrade", *words, expect=expect)

    def service(self, word: str, expect: int | None = 0) -> Done:
        return self.operator(INIT, word, seconds=120, expect=expect)

    def as_account(self, *words: str, seconds: float = 120, expect: int | None = 0) -> Done:
        """The release's program, as the account that owns the home."""
        become = ("setpriv", "--reuid=appliance", "--regid=appliance", "--clear-groups", "--")
        return self.box.run(*become, PROGRAM, *words, "--home", HOME, seconds=seconds, expect=expect)

    def ask(self, *words: str, seconds: float = 120) -> dict[str, Any]:
        """What the program answers to `--json`."""
        found: dict[str, Any] = json.loads(self.as_account(*words, "--json", seconds=seconds).out)
        return found

    def current(self) -> str:
        """The name of the release that serves."""
        return Path(self.box.run("readlink", "/opt/appliance/current").out.strip()).name

    def states(self) -> list[tuple[str, int, str]]:
        """(what, serial, state) of the installer's journal, the newest last."""
        try:
            text = Path(f"{self.box.root}{STATE}/install.jsonl").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        lines = [json.loads(each) for each in text.splitlines(keepends=True) if each.endswith("\n")]
        return [(each["plan"]["what"], each["plan"]["serial"], each["state"]) for each in lines]

    def wait_for_state(self, state: str, seconds: float) -> None:
        """Until the newest line of the installer's journal says so."""
        deadline = time.monotonic() + seconds
        while not (lines := self.states()) or lines[-1][2] != state:
            assert time.monotonic() < deadline, f"{state} did not come: {lines[-3:]}"
            time.sleep(0.1)

    def left(self) -> set[str]:
        """Every file that this life has added to the bare system or changed there."""
        found = set()
        for folder, _, names in os.walk(self.box.upper):
            for name in names:
                path = Path(folder, name)
                inside = f"/{path.relative_to(self.box.upper)}"
                is_removed = stat.S_ISCHR(path.lstat().st_mode)  # overlayfs marks it so
                if not is_removed:
                    found.add(inside)
        return found

    # --- kiosks ---------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://{BOX if self.network is not None else '127.0.0.1'}:{PORT}"

    def chat(self) -> dict[str, Any]:
        """A kiosk's question, from where the kiosk stands. Answered, or AssertionError."""
        script = f"{KIOSK.read_text(encoding='utf-8').partition('if __name__')[0]}\n"
        script += "print(json.dumps(ask(*sys.argv[1:])))\n"
        where = self.box.python if self.network is None else self.network.python
        said = where(script, self.url, self.key)
        found: dict[str, Any] = json.loads(said if isinstance(said, str) else said.out)
        assert found.get("status") == 200, found
        return found

    def wait_until_it_answers(self, seconds: float = 60) -> dict[str, Any]:
        """The first answer behind a start: the model may still be loading."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.chat()
            except AssertionError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.3)

    def under_load(self) -> Load:
        """Kiosks that ask until `stop`."""
        words = (self.url, self.key, str(_CALLERS), str(_LOAD_SECONDS))
        name = f"load-{time.monotonic_ns()}"
        if self.network is not None:
            stop = self.box.place / "log" / name
            running = self.network.begin(KIOSK, *words, str(stop), output=stop.with_suffix(".out"))
            return Load(running.process, running.output, stop)
        inside = f"/run/{name}"
        source = KIOSK.read_text(encoding="utf-8")
        running = self.box.begin("python3", "-I", "-", *words, inside, stdin=source)
        return Load(running.process, running.output, Path(f"{self.box.root}{inside}"))

    # --- the auditor ----------------------------------------------------------------------------------------

    def verified(self) -> dict[str, Any]:
        """The whole record, checked by the verifier."""
        return self.ask("audit", "verify")

    def recorded(self, kind: str) -> list[dict[str, Any]]:
        """Every entry of a kind, the oldest first."""
        found: list[dict[str, Any]] = []
        cursor: tuple[str, ...] = ()
        while True:
            page = self.ask(
                *("audit", "search", "--kind", kind, "--oldest-first", "--limit", "1000"),
                *("--purpose", "acceptance of an upgrade", *cursor),
            )
            found += page["entries"]
            if not page.get("next_cursor"):
                return found
            cursor = ("--cursor", page["next_cursor"])


def summary(attempts: list[dict[str, Any]]) -> Mapping[str, int]:
    """How many attempts ended how: `200`, `503 upgrading`, `refused: ConnectionRefusedError`, …"""
    found: dict[str, int] = {}
    for each in attempts:
        if "status" in each:
            name = f"{each['status']} {each.get('code', '')}".strip()
        else:
            name = ": ".join(next(iter(each.items())))
        found[name] = found.get(name, 0) + 1
    return found
