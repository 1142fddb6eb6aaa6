"""A release's folder at its final path: files, environment, program. Nothing in it is ever moved.

    <serial>-<release>/{app,lock,venv,bin/appliance,manifest.json,SHA256SUMS,.complete}

Needs nothing but Python's own library: `install.sh` runs it with the system's Python from the verified staged
copy, before any environment exists. Root owns everything; the service's user reads.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from appliance import durable
from appliance.bundle import layout, sums
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.errors import SetupError

COMPLETE: Final = ".complete"
OLDEST_PYTHON: Final = (3, 11)
_UNPACKED: Final = (f"{layout.WHEELS}/", f"{layout.BLOBS}/", f"{layout.METADATA}/")
_CLEAN: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "PIP_CONFIG_FILE": os.devnull}
_PIP: Final = re.compile(r"wheels/pip-[0-9][A-Za-z0-9.]*-py3-none-any\.whl")
_FOLDER_MODE, _FILE_MODE, _PROGRAM_MODE = 0o755, 0o644, 0o755

Tell = Callable[[str], None]
Wheel = Callable[[str, str], Path]  # (path in the bundle, SHA-256) → where its bytes lie


def build(staged: Path, folder: Path, python: Path, tell: Tell = lambda _word: None) -> None:
    """Build a release from a verified staged copy. Does nothing where it is complete; begins anew where it is
    not.

    BundleRefused (16) where the copy changed since it was verified.
    """
    listed = read_sums(staged)
    if is_complete(folder, sums_digest(staged)):
        return
    if folder.exists():
        shutil.rmtree(folder)
    make_folder(folder)
    tell("files")
    for path, digest in listed.items():
        if not path.startswith(_UNPACKED):
            _copy(staged / path, folder / path, digest)
    _copy(staged / layout.SUMS, folder / layout.SUMS, sums_digest(staged))
    build_environment(folder, python, lambda path, _digest: staged / path, tell)


def build_environment(folder: Path, python: Path, wheel: Wheel, tell: Tell = lambda _word: None) -> None:
    """(Re)build a release's environment from wheels that are looked up by digest; `.complete` is written
    last.
    """
    (folder / COMPLETE).unlink(missing_ok=True)
    listed = read_sums(folder)
    venv, gathered = folder / "venv", folder / ".wheels"
    for each in (venv, gathered):
        shutil.rmtree(each, ignore_errors=True)
    make_folder(gathered)
    try:
        for path, digest in listed.items():
            if path.startswith(f"{layout.WHEELS}/"):
                _place_wheel(wheel(path, digest), gathered / path.rpartition("/")[2], digest)
        tell("environment")
        # By its full name (python3.11): another minor version takes the name python3 over, and never this
        # one.
        _run([str(python.resolve()), "-I", "-m", "venv", "--without-pip", str(venv)])
        _install(folder, gathered, listed)
        tell("program")
        _finish(folder, venv)
    finally:
        shutil.rmtree(gathered, ignore_errors=True)
    os.sync()  # .complete says that everything before it is on the disk
    about = {"sums": sums_digest(folder), "python": python_of(venv), "prefix": str(folder)}
    durable.write_file(folder / COMPLETE, f"{json.dumps(about, sort_keys=True)}\n".encode(), mode=_FILE_MODE)


def is_complete(folder: Path, sums_sha256: str = "") -> bool:
    """Whether everything of a release was written, of exactly this bundle where one is named."""
    try:
        about = json.loads((folder / COMPLETE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return about.get("prefix") == str(folder) and sums_sha256 in {"", about.get("sums")}


def is_runnable(folder: Path) -> bool:
    """Whether the Python that its environment was built with is still there."""
    return is_complete(folder) and os.access(folder / "venv/bin/python", os.X_OK)


def sums_digest(folder: Path) -> str:
    """SHA-256 of the list of digests: it names a bundle's whole content."""
    return hashlib.sha256((folder / layout.SUMS).read_bytes()).hexdigest()


def read_sums(folder: Path) -> Mapping[str, str]:
    """SHA-256 by path. The list was verified before; here only its form is looked at. BundleRefused (11)."""
    return sums.parse((folder / layout.SUMS).read_bytes())


def find_python(*preferred: str) -> Path:
    """The system's Python that environments are built with. SetupError where none is new enough."""
    names = (*preferred, "python3", *(f"python3.{minor}" for minor in (14, 13, 12, 11)))
    for name in names:
        found = shutil.which(name, path=_CLEAN["PATH"] + ":/usr/local/bin")
        if found and version_of(Path(found)) >= OLDEST_PYTHON:
            return Path(found).resolve()
    raise SetupError(
        "this host has no Python of version 3.11 or newer",
        code="python_missing",
        hint="install it from the operating system's own medium: python3 (Debian), python3.11 (RHEL 9)",
    )


def python_of(venv: Path) -> str:
    """The version that an environment was built for, as 3.11."""
    return ".".join(map(str, version_of(venv / "bin/python")[:2]))


def make_folder(path: Path) -> None:
    """A folder that everybody may read, whatever the umask says."""
    for each in [*reversed(path.parents), path]:
        if not each.exists():
            each.mkdir()
            each.chmod(_FOLDER_MODE)


def main(arguments: list[str]) -> None:
    """`install.sh` calls this: STAGED FOLDER. Ends with the exit code of what is wrong."""
    staged, folder = (Path(each) for each in arguments)
    try:
        build(staged, folder, find_python(sys.executable), lambda word: _say(f"building: {word}"))
    except BundleRefused as error:
        _say(error.message)
        sys.exit(int(error.exit))
    except SetupError as error:
        _say(f"{error.message}\n{error.hint}")
        sys.exit(int(Exit.PREFLIGHT))


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)  # noqa: T201 - a person reads this


def _install(folder: Path, gathered: Path, listed: Mapping[str, str]) -> None:
    """The locked packages, from these wheels alone: no index, no configuration, no cache, no build."""
    pip = next((path for path in listed if _PIP.fullmatch(path)), None)
    if pip is None:
        raise BundleRefused(Exit.MISSING, "the bundle holds no wheel of pip")
    _run(
        [
            str(folder / "venv/bin/python"),
            "-I",
            str(gathered / pip.rpartition("/")[2] / "pip"),
            "--isolated",
            "--disable-pip-version-check",
            "--no-input",
            "--quiet",
            "install",
            "--no-index",
            "--no-cache-dir",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--find-links",
            str(gathered),
            "--require-hashes",
            "-r",
            str(folder / layout.LOCK),
        ]
    )


def _finish(folder: Path, venv: Path) -> None:
    site_packages = venv / "lib" / f"python{python_of(venv)}" / "site-packages"
    durable.write_file(site_packages / "appliance.pth", f"{folder / layout.APP}\n".encode(), mode=_FILE_MODE)
    make_folder(folder / "bin")
    durable.write_file(folder / "bin/appliance", _program(folder).encode(), mode=_PROGRAM_MODE)
    _run([str(venv / "bin/python"), "-I", "-m", "compileall", "-q", str(folder / layout.APP)])


def _program(folder: Path) -> str:
    """The release's program. After the system's Python changed it still ends with what to do, or does it."""
    here = shlex.quote(str(folder))
    return f"""#!/bin/sh
# This release's program, whatever the environment says.
here={here}
[ ! -x "$here/venv/bin/python" ] || exec "$here/venv/bin/python" -I -m appliance "$@"
# The system's Python is another one now. The environment is built again from the wheels that were kept.
case "${{1-}} ${{2-}}" in
  'bundle repair' | 'bundle settle')
    for python in python3 python3.14 python3.13 python3.12 python3.11; do
      "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || continue
      "$python" -I -B -c 'import sys
sys.path.insert(0, sys.argv.pop(1))
from appliance.bundle.install import repair
repair.main(sys.argv[1:])' "$here/app" "$here" || exit $?
      exec "$here/venv/bin/python" -I -m appliance "$@"
    done ;;
esac
echo 'appliance: the Python that this release was built with is gone' >&2
echo 'appliance: hint: run as root: appliance bundle repair' >&2
exit 3
"""


def _copy(source: Path, target: Path, digest: str) -> None:
    make_folder(target.parent)
    found = hashlib.sha256()
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(1 << 20):
            found.update(chunk)
            writer.write(chunk)
    if found.hexdigest() != digest:
        raise BundleRefused(Exit.WRONG_DIGEST, f"{source} changed after it was verified")
    target.chmod(_FILE_MODE)


def _place_wheel(source: Path, target: Path, digest: str) -> None:
    """Under its own name, for pip; pip itself checks it against the lock, and we against the list."""
    if not source.is_file():
        raise BundleRefused(
            Exit.MISSING,
            f"{target.name} is not there",
            hint="import this release's bundle again: the store is mended from there",
        )
    _copy(source, target, digest)


def version_of(python: Path) -> tuple[int, ...]:
    """(3, 11, 2); (0,) where it does not run."""
    try:
        said = subprocess.run(  # noqa: S603 - the system's own Python
            [str(python), "-I", "-c", "import sys; print(*sys.version_info[:3])"],
            capture_output=True,
            check=True,
            env=_CLEAN,
            text=True,
            timeout=60,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return (0,)
    return tuple(map(int, said.split()))


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, check=False, env=_CLEAN, text=True, umask=0o022)  # noqa: S603
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise BundleRefused(Exit.PREFLIGHT, f"the environment could not be built: {'; '.join(last)[:500]}")
