"""`deploy/bootstrap/bundle.py [--out DIR …]`: fetch what a bundle packs into the cache, then have it built.

This half needs a network, the other half (`appliance bundle build`) has none: it packs what it is given.
It runs in the checkout's environment, whose `packaging` evaluates the lock for each Python. Without `--out`
it only fetches: wheels for every Python that we name, and the portable wheel of llama.cpp. With `--cuda` that
wheel computes on NVIDIA's GPUs, too, where the backend is built or can be.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import zipfile
from pathlib import Path

sys.dont_write_bytecode = True

import cuda  # noqa: E402 - the switch above must come first
import host  # noqa: E402
import portable  # noqa: E402
import starter  # noqa: E402

from appliance.bundle import wheelhouse  # noqa: E402
from appliance.errors import ApplianceError  # noqa: E402

LOCKED = (host.LOCKS / "runtime.txt", host.LOCKS / "installer.txt")
CUDA = "--cuda"
_LICENCE = re.compile(r"packaging-[^/]+\.dist-info/licenses/LICENSE\.APACHE")


def main() -> None:
    """Prepare, and become `appliance bundle build` where a bundle is wanted."""
    words = [each for each in sys.argv[1:] if each != CUDA]
    try:
        host.check_host()
        wheels = fetched()
        llama = portable.wheel(backend() if CUDA in sys.argv else None)
        model, _ = starter.model()
        licence = starter_licence(wheels)
    except (host.SetupFailed, ApplianceError) as error:
        sys.exit(f"bundle: {error}")
    except KeyboardInterrupt:
        sys.exit("bundle: interrupted; run it again to go on")
    if not words:
        host.say(f"wheels: {wheels}")
        host.say(f"llama: {llama}")
        host.say(f"model: {model}")
        host.say(f"licence: {licence}")
        return
    given: list[str | Path] = ["--wheels", wheels, "--llama", llama, "--model", model, "--licence", licence]
    program = host.VENV / "bin" / "appliance"
    sys.stdout.flush()
    command = [str(each) for each in (program, "bundle", "build", *given, *words)]
    os.execv(program, command)  # noqa: S606 - no shell is wanted


def backend() -> Path | None:
    """The CUDA backend; None where it can not be built, and the reason is said."""
    try:
        return cuda.backend()
    except host.SetupFailed as error:
        host.say(f"the CUDA backend is not built: {error}")
        host.say("this bundle's llama.cpp computes on processors alone")
        return None


def fetched() -> Path:
    """A folder with every wheel that the locks name for our Pythons, each by its digest."""
    lock = [each for path in LOCKED for each in wheelhouse.parse_lock(path.read_text(encoding="utf-8"))]
    salt = f"{wheelhouse.PYTHONS}{wheelhouse.PLATFORMS}"
    folder = host.cache_dir() / "wheelhouse" / host.digest_of(*LOCKED, salt=salt)
    with host.locked(folder.with_suffix(".lock")):
        if any(each.missing for each in _choices(folder, lock)):
            _fetch(folder, lock)
            wheelhouse.require_complete(_choices(folder, lock))
    return folder


def starter_licence(wheels: Path) -> Path:
    """The text of the starter model's licence, Apache-2.0, out of a package that is locked by digest."""
    package = next(wheels.glob("packaging-*.whl"))
    with zipfile.ZipFile(package) as archive:
        name = next(each for each in archive.namelist() if _LICENCE.fullmatch(each))
        text = archive.read(name)
    if b"Apache License" not in text or b"Version 2.0, January 2004" not in text:
        raise host.SetupFailed(f"{name} is not the Apache License")
    target = host.cache_dir() / "licences" / "Apache-2.0.txt"
    target.parent.mkdir(exist_ok=True)
    if not target.is_file() or target.read_bytes() != text:
        temporary = target.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(text)
        temporary.replace(target)
    return target


def _choices(folder: Path, lock: list[wheelhouse.Locked]) -> list[wheelhouse.Choice]:
    wheels = {each.name: host.sha256_of(each) for each in folder.glob("*.whl")}
    return [wheelhouse.choose(lock, wheels, python) for python in wheelhouse.PYTHONS]


def _fetch(folder: Path, lock: list[wheelhouse.Locked]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for python in wheelhouse.PYTHONS:
        progress = host.Progress(f"fetching wheels for Python {python}")
        with tempfile.NamedTemporaryFile("w", suffix=".txt", dir=folder.parent) as file:
            file.write(wheelhouse.lock_for(lock, python))
            file.flush()
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
            host.run(
                [*command, "-r", file.name, "-d", folder, *wheelhouse.download_options(python)],
                log=host.cache_dir() / "logs" / f"wheelhouse-{python}.log",
                on_line=host.counting(r"^Collecting ", progress, len(wheelhouse.wanted(lock, python))),
            )
        progress.finish()


if __name__ == "__main__":
    main()
