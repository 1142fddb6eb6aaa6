"""Runs the clients' programs, each in its own environment and without a network; knows their checks."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from appliance.core import Role
from tests.harness import Gateway
from tests.needed import missing

HERE = Path(__file__).parent / "clients"
sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "bootstrap"))

import clients  # noqa: E402 - set-up knows where it put them; it is a program of its own and no package

# Nothing of these calls home where it is told not to; the guard finds what does so nevertheless.
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "NO_PROXY": "*",
}
SECONDS = 110


def client_names() -> set[str]:
    """All that have an environment."""
    return {*clients.names(), "js"}


def checks_of(client: str, module: str) -> list[str]:
    """The names of a program's checks, read and not run."""
    if client == "js":
        return re.findall(r'^check\("(\w+)"', (HERE / "js" / f"{module}.mjs").read_text(), re.MULTILINE)
    tree = ast.parse((HERE / f"{module}.py").read_text())
    return [
        each.name
        for each in tree.body
        if isinstance(each, ast.FunctionDef)
        and any(isinstance(mark, ast.Name) and mark.id == "check" for mark in each.decorator_list)
    ]


def cases(table: Mapping[str, tuple[str, ...]]) -> list[Any]:
    """(client, check) of each check of a table: client → the modules that run in its environment."""
    return [
        pytest.param(client, f"{module}.{name}", id=f"{client}-{module}.{name}")
        for client, modules in table.items()
        for module in modules
        for name in checks_of(client, module)
    ]


class Clients:
    """Runs each client once, when the first of its checks is asked for."""

    def __init__(self, running: Gateway, folder: Path, table: Mapping[str, tuple[str, ...]]) -> None:
        self._running = running
        self._table = table
        self._folder = folder
        self._found: dict[str, dict[str, str | None]] = {}

    def found(self, client: str, *modules: str) -> dict[str, str | None]:
        """Check → its problem; `network` → what the guard refused."""
        if client not in self._found:
            self._found[client] = self._run(client, modules or self._table[client])
        return self._found[client]

    def again(self) -> Clients:
        """The same, with nothing run yet."""
        folder = self._folder / f"again-{len(list(self._folder.iterdir()))}"
        folder.mkdir()
        return Clients(self._running, folder, self._table)

    def _run(self, client: str, modules: tuple[str, ...]) -> dict[str, str | None]:
        folder = self._folder / client
        folder.mkdir()
        record = folder / "refused"
        record.touch()
        environment = {
            **QUIET,
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": os.environ["PYTHONPATH"],
            "PYTHONDONTWRITEBYTECODE": "1",
            "NETGUARD_RECORD": str(record),
            "APPLIANCE_URL": self._running.url,
            "APPLIANCE_KEY": self._running.key(),
            "APPLIANCE_OPERATOR_KEY": self._running.key(Role.OPERATOR),
            "APPLIANCE_AUDITOR_KEY": self._running.key(Role.AUDITOR),
        }
        lines: list[str] = []
        for command in _commands(client, modules, folder):
            done = subprocess.run(
                command,
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            assert done.returncode == 0, done.stderr[-2000:]
            lines += done.stdout.splitlines()
        told = [json.loads(line) for line in lines if line.startswith('{"check"')]
        return {each["check"]: each["problem"] for each in told} | {"network": record.read_text() or None}


def _commands(client: str, modules: tuple[str, ...], folder: Path) -> list[list[str]]:
    if client != "js":
        python = clients.find_python(client)
        if python is None:
            missing(f"the client {client} is not installed: make clients")
        return [[str(python), "-m", "tests.contract.clients.checks", *modules]]
    installed = clients.find_modules()
    if installed is None or shutil.which("node") is None:
        missing(clients.NO_NODE)
    scripts = folder / "scripts"
    shutil.copytree(HERE / "js", scripts)
    (scripts / "node_modules").symlink_to(installed / "node_modules")  # where node looks for them
    guard = str(scripts / "netguard.cjs")
    return [["node", "--require", guard, str(scripts / f"{module}.mjs")] for module in modules]
