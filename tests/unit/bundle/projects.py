"""A small checkout with everything that a bundle is built from: it builds in a fraction of a second."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.bundle import building
from tests import ggufs
from tests.bundles import BUILT_SECONDS, ROOT, wheel

LLAMA = "llama_cpp_python-0.3.36-py3-none-manylinux_2_34_x86_64.whl"
PIP = "pip-26.3-py3-none-any.whl"
PURE = "pure-1.0-py3-none-any.whl"
NATIVE = tuple(f"native-2.0-cp3{minor}-cp3{minor}-manylinux2014_x86_64.whl" for minor in (11, 12, 13, 14))
WHEELS = (PIP, PURE, *NATIVE)
MODEL_BYTES = 10_000


@dataclass(frozen=True)
class Project:
    """A clean checkout, wheels for four Pythons, and a model with its licence."""

    root: Path

    @property
    def tree(self) -> Path:
        return self.root / "tree"

    @property
    def wheels(self) -> Path:
        return self.root / "wheels"

    @property
    def model(self) -> building.GivenModel:
        return building.GivenModel(self.root / "tiny.gguf", self.root / "LICENCE")

    def inputs(self, **changes: Any) -> building.Inputs:
        given = building.Inputs(
            out=self.root / "dist",
            serial=7,
            release="2.4.0",
            wheels=self.wheels,
            llama=self.root / LLAMA,
            tree=self.tree,
            models=[self.model],
            part_bytes=4096,
        )
        return dataclasses.replace(given, **changes)

    def commit(self, seconds: int = BUILT_SECONDS) -> None:
        moment = f"{seconds} +0000"
        who = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_AUTHOR_DATE": moment}
        who |= {"GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t", "GIT_COMMITTER_DATE": moment}
        for command in (["add", "-A"], ["commit", "-q", "-m", "all"]):
            subprocess.run(["git", *command], cwd=self.tree, env={**os.environ, **who}, check=True)


def make(root: Path) -> Project:
    """A project under `root`, committed."""
    project = Project(root)
    project.wheels.mkdir(parents=True)
    for name in WHEELS:
        (project.wheels / name).write_bytes(wheel(name))
    (root / LLAMA).write_bytes(wheel(LLAMA))
    (root / "tiny.gguf").write_bytes(model("llama"))
    (root / "LICENCE").write_text("Do as you please.\n")
    subprocess.run(["git", "init", "-q", str(project.tree)], check=True)
    _fill(project)
    project.commit()
    return project


def model(arch: str) -> bytes:
    """A model file of this architecture, without weights."""
    keys: dict[str, ggufs.Value] = {"general.architecture": arch, "general.file_type": 15}
    return bytes(ggufs.make(keys, ()).data).ljust(MODEL_BYTES, b"\0")


def _fill(project: Project) -> None:
    locks = project.tree / "deploy" / "lock"
    locks.mkdir(parents=True)
    native = " ".join(_hash(project.wheels / name) for name in NATIVE)
    pure = _hash(project.wheels / PURE)
    (locks / "runtime.txt").write_text(
        f"native==2.0 {native}\npure==1.0 ; sys_platform == 'linux' \\\n    {pure}\n"
        f"windows==1.0 ; sys_platform == 'win32' --hash=sha256:{'0' * 64}\n"
    )
    (locks / "installer.txt").write_text(f"pip==26.3 \\\n    {_hash(project.wheels / PIP)}\n")
    (locks / "llama.txt").write_text(f"# the source\nllama-cpp-python==0.3.36 --hash=sha256:{'1' * 64}\n")
    content = {
        "appliance/__init__.py": "",
        "deploy/CHANGELOG.md": "# Changelog\n\n## 0.1.0 — now\n\n### Added\n- All.\n\n## 0.0.9\n- Old.\n",
        "deploy/bootstrap/host.py": "",
        "deploy/guides/bundles.md": "# Bundles\n",
        "deploy/verify.sh": "#!/bin/sh\n",
        "deploy/install.sh": "#!/bin/sh\n",
        "deploy/ed25519_verify.py": "",
        "tests/test_all.py": "",
        "models/tiny.toml": _catalogue(project.model.file),
    }
    for path, text in content.items():
        (project.tree / path).parent.mkdir(parents=True, exist_ok=True)
        (project.tree / path).write_text(text)
    (project.tree / "deploy" / "verify.sh").chmod(0o755)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "migrations", project.tree / "migrations", ignore=ignore)
    (project.tree / ".gitignore").write_text("__pycache__/\n")


def _catalogue(model: Path) -> str:
    data = model.read_bytes()
    return (
        f'id = "tiny"\nfile = "tiny.gguf"\nsha256 = "{hashlib.sha256(data).hexdigest()}"\n'
        f'size_bytes = {len(data)}\nlicence = "LicenseRef-tiny"\nn_ctx = 256\n'
        '[source]\npackage = "made-up"\nversion = "1"\nmember = "tiny.gguf"\n'
    )


def _hash(path: Path) -> str:
    return f"--hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
