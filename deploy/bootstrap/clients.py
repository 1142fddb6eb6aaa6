"""`deploy/bootstrap/clients.py`: environments for the clients that tests/contract runs, in the cache.

One for each lock under deploy/lock/clients, by the lock's own digest: several majors of one library can
not live together, and none of them may touch `.venv`. Python's are virtual environments, every package by
its hash; JavaScript's is a folder of modules that npm installs from its lock, without running what
packages bring. Fetching ends here: tests have no network.
"""

from __future__ import annotations

import concurrent.futures
import re
import shutil
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import host  # noqa: E402 - the switch above must come first

LOCKS = host.LOCKS / "clients"
JAVASCRIPT = LOCKS / "js"
NO_NODE = "node and npm are not installed (Debian: apt install nodejs npm), then: make clients"
_AT_ONCE = 2  # pip unpacks on one core and waits for the network on none
_COMPLETE = "complete"


def main() -> None:
    """Make what is not there yet; without node, say what is left out."""
    try:
        host.check_host()
        missing = [each for each in names() if find_python(each) is None]
        with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(python, missing))
        if find_modules() is None:
            modules()
    except host.SetupFailed as error:
        sys.exit(f"clients: {error}")
    except KeyboardInterrupt:
        sys.exit("clients: interrupted; run it again to go on")


def names() -> list[str]:
    """The Python environments, by the names of their locks."""
    return sorted(each.stem for each in LOCKS.glob("*.txt"))


def versions(lock: Path) -> dict[str, str]:
    """What a lock pins, by package."""
    text = lock.read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^ ;\\]+)", text, re.MULTILINE))


def find_python(name: str) -> Path | None:
    """An environment's Python, where it has been made."""
    folder = _folder(name)
    return folder / "bin" / "python" if (folder / _COMPLETE).is_file() else None


def python(name: str) -> Path:
    """An environment's Python; makes it where it is not there."""
    folder = _folder(name)
    with host.locked(folder.with_suffix(".lock")):
        if found := find_python(name):
            return found
        lock = LOCKS / f"{name}.txt"
        host.say(f"installing a client: {name} ({len(versions(lock))} packages)")
        shutil.rmtree(folder, ignore_errors=True)
        logs = host.cache_dir() / "logs"
        host.run([sys.executable, "-m", "venv", folder], log=logs / f"client-{name}-venv.log")
        pip: list[str | Path] = [folder / "bin" / "python", "-m", "pip", "install", "--no-deps"]
        host.run([*pip, "--require-hashes", "-r", lock], log=logs / f"client-{name}.log")
        (folder / _COMPLETE).touch()
    return folder / "bin" / "python"


def find_modules() -> Path | None:
    """The folder that holds `node_modules`, where it has been made."""
    folder = _modules_folder()
    return folder if (folder / _COMPLETE).is_file() else None


def modules() -> Path | None:
    """The folder that holds `node_modules`; None where this host has no node."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        host.say(NO_NODE)
        return None
    folder = _modules_folder()
    with host.locked(folder.with_suffix(".lock")):
        if find_modules() is None:
            host.say("installing the JavaScript clients")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for each in ("package.json", "package-lock.json"):
                shutil.copyfile(JAVASCRIPT / each, folder / each)
            cache = host.cache_dir() / "npm"
            command: list[str | Path] = [
                "npm",
                "ci",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--cache",
                cache,
            ]
            host.run([*command, "--prefix", folder], log=host.cache_dir() / "logs" / "client-js.log")
            (folder / _COMPLETE).touch()
    return folder


def _folder(name: str) -> Path:
    digest = host.digest_of(LOCKS / f"{name}.txt", salt=sys.version)
    return host.cache_dir() / "clients" / f"{name}-{digest}"


def _modules_folder() -> Path:
    digest = host.digest_of(JAVASCRIPT / "package.json", JAVASCRIPT / "package-lock.json")
    return host.cache_dir() / "clients" / f"js-{digest}"


if __name__ == "__main__":
    main()
