"""The service: put in place, started, stopped, asked. By systemd where it runs, else by a script of SysV's
kind.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from appliance.bundle.install.programs import CLEAN
from appliance.bundle.refusals import BundleRefused, Exit

UNITS: Final = "deploy/units"
NAME: Final = "appliance"
_START_SECONDS: Final = 900.0
_FAPOLICYD: Final = "etc/fapolicyd/rules.d"
_RULES: Final = "35-appliance.rules"  # before the rules that refuse (deploy/units/appliance.fapolicyd)


class Service(Protocol):
    """What the installer asks of a host's service manager. Every act can be done again."""

    def put(self, app: Path) -> None:
        """Bring a release's unit files to their places; they take the place of another release's."""
        ...

    def start(self) -> None:
        """BundleRefused (41) where it does not come up."""
        ...

    def stop(self) -> None:
        """Stop, and wait until it has. BundleRefused (41) where it does not."""
        ...

    def is_active(self) -> bool: ...

    def is_starting(self) -> bool:
        """Whether it is just being started: by whoever runs us as a part of that."""
        ...

    def enable(self) -> None:
        """Start it with the host from now on."""
        ...

    def remove(self) -> None:
        """Never start it again, and take its files away."""
        ...


class Systemd:
    """Units below /etc/systemd/system. Root is `/`: nobody else's manager is spoken to."""

    _FILES: Final = {
        "appliance.service": "etc/systemd/system/appliance.service",
        "appliance-worker.socket": "etc/systemd/system/appliance-worker.socket",
        "appliance-worker@.service": "etc/systemd/system/appliance-worker@.service",
        "appliance.sysusers": "etc/sysusers.d/appliance.conf",
        "appliance.tmpfiles": "etc/tmpfiles.d/appliance.conf",
    }

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, app: Path) -> None:
        _put_files(self._root, app, self._FILES)
        _put_policies(self._root, app)
        _call("systemctl", "daemon-reload")

    def start(self) -> None:
        _call("systemctl", "reset-failed", f"{NAME}.service", must=False)
        _call("systemctl", "start", f"{NAME}.service")

    def stop(self) -> None:
        _call("systemctl", "stop", f"{NAME}.service", must=self._state() not in {"inactive", "unknown"})

    def is_active(self) -> bool:
        return self._state() == "active"

    def is_starting(self) -> bool:
        return self._state() == "activating"

    def enable(self) -> None:
        _call("systemctl", "enable", f"{NAME}.service")
        if (self._root / self._FILES["appliance-worker.socket"]).exists():
            _call("systemctl", "enable", f"{NAME}-worker.socket")

    def remove(self) -> None:
        for unit in (f"{NAME}.service", f"{NAME}-worker.socket"):
            _call("systemctl", "disable", "--now", unit, must=False)
        for path in (*self._FILES.values(), f"{_FAPOLICYD}/{_RULES}"):
            (self._root / path).unlink(missing_ok=True)
        _call("systemctl", "daemon-reload")

    def _state(self) -> str:
        return _call("systemctl", "is-active", f"{NAME}.service", must=False).strip() or "unknown"


class Init:
    """`/etc/init.d/appliance start|stop|status`, where no systemd runs: containers, chroots, other inits.

    Below another root than `/` (in tests) the script is told so by APPLIANCE_ROOT.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._script = root / "etc/init.d/appliance"

    def put(self, app: Path) -> None:
        _put_files(self._root, app, {"appliance.init": "etc/init.d/appliance"})
        self._script.chmod(0o755)
        _put_policies(self._root, app)

    def start(self) -> None:
        self._ask("start")

    def stop(self) -> None:
        if self._script.exists():
            self._ask("stop")

    def is_active(self) -> bool:
        return self._script.exists() and self._ask("status", must=False)

    def is_starting(self) -> bool:
        return False  # the script asks before it starts anything

    def enable(self) -> None:
        if self._root == Path("/"):
            _enable("defaults", "--add")

    def remove(self) -> None:
        self.stop()
        if self._root == Path("/"):
            _enable("remove", "--del")
        self._script.unlink(missing_ok=True)

    def _ask(self, word: str, *, must: bool = True) -> bool:
        env = CLEAN if self._root == Path("/") else {**CLEAN, "APPLIANCE_ROOT": str(self._root)}
        return _run([str(self._script), word], env, must=must)[0]


def of(root: Path) -> Service:
    """The manager that this host has."""
    if root == Path("/") and Path("/run/systemd/system").is_dir():
        return Systemd(root)
    return Init(root)


def _put_files(root: Path, app: Path, files: dict[str, str]) -> None:
    for name, place in files.items():
        source, target = app / UNITS / name, root / place
        if not source.exists():
            continue  # an earlier release had fewer
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.tmp")
        shutil.copyfile(source, temporary)
        temporary.chmod(0o644)
        temporary.replace(target)


def _put_policies(root: Path, app: Path) -> None:
    """What SELinux and fapolicyd want to know, where a host has them (deploy/guides/host.md)."""
    rules = app / UNITS / "appliance.fapolicyd"
    folder = root / _FAPOLICYD
    if rules.exists() and folder.is_dir():
        shutil.copyfile(rules, folder / _RULES)
        _call("fagenrules", "--load", must=False)
    label = app / UNITS / "label.sh"
    if label.exists() and root == Path("/"):
        _run(["/bin/sh", str(label)], CLEAN, must=True)


def _enable(debian: str, redhat: str) -> None:
    """SysV's links, by whichever tool the host has; without one the operator starts it."""
    if shutil.which("update-rc.d", path=CLEAN["PATH"]):
        _call("update-rc.d", NAME, debian, must=False)
    elif shutil.which("chkconfig", path=CLEAN["PATH"]):
        _call("chkconfig", redhat, NAME, must=False)


def _call(*command: str, must: bool = True) -> str:
    return _run(command, CLEAN, must=must)[1]


def _run(command: Sequence[str], env: dict[str, str], *, must: bool) -> tuple[bool, str]:
    """(whether it ended with 0, what it said). A file, because the service would inherit a pipe of ours."""
    with tempfile.TemporaryFile() as said:
        try:
            done = subprocess.run(  # noqa: S603 - the host's own service manager
                command,
                check=False,
                cwd="/",
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                timeout=_START_SECONDS,
            )
            code = done.returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            code, last = -1, str(error)
        else:
            said.seek(0)
            last = said.read().decode("utf-8", "replace")
    if code and must:
        tail = "; ".join(last.strip().splitlines()[-3:])
        raise BundleRefused(Exit.UNHEALTHY, f"{' '.join(command[:3])} ended with {code}: {tail[:500]}")
    return code == 0, last
