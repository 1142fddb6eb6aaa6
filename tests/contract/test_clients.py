"""Clients that others wrote, each in an environment of its own, against one real gateway.

Each program prints one line for each of its checks; here every check is a test. The programs have no
network: whatever calls out is refused and makes the test of its client fail.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from appliance.core import Role
from tests.harness import Gateway, gateway
from tests.needed import missing

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "clients"
sys.path.insert(0, str(ROOT / "deploy" / "bootstrap"))

import clients  # noqa: E402 - set-up knows where it put them; it is a program of its own and no package

OPENAI = (
    "openai_chat",
    "openai_logprobs",
    "openai_tools",
    "openai_responses",
    "openai_responses_tools",
    "openai_rest",
    "openai_errors",
)
CLIENTS: Mapping[str, tuple[str, ...]] = {
    "openai-1": OPENAI,
    "openai-2": OPENAI,
    "openai-3": OPENAI,
    "langchain": ("langchain_chat", "langchain_tools", "langchain_responses"),
    "llama-index": ("llama_index_chat", "llama_index_tools"),
    "litellm": ("litellm_chat", "litellm_tools", "litellm_responses"),
    "anthropic": ("anthropic_messages", "anthropic_tools"),
    "js": ("ai_sdk", "ai_tools"),
}
# Nothing of these calls home where it is told not to; the guard finds what does so nevertheless.
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "NO_PROXY": "*",
}
SECONDS = 110

pytestmark = pytest.mark.integration


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


CHECKS = [
    pytest.param(client, f"{module}.{name}", id=f"{client}-{module}.{name}")
    for client, modules in CLIENTS.items()
    for module in modules
    for name in checks_of(client, module)
]


class Clients:
    """Runs each client once, when the first of its checks is asked for."""

    def __init__(self, running: Gateway, folder: Path) -> None:
        self._running = running
        self._folder = folder
        self._found: dict[str, dict[str, str | None]] = {}

    def found(self, client: str, *modules: str) -> dict[str, str | None]:
        """Check → its problem; `network` → what the guard refused."""
        if client not in self._found:
            self._found[client] = self._run(client, modules or CLIENTS[client])
        return self._found[client]

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


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    folder = tmp_path_factory.mktemp("clients")
    with gateway(folder / "home") as running:
        yield Clients(running, folder)


@pytest.mark.parametrize(("client", "check"), CHECKS)
def test_client_is_content(ran: Clients, client: str, check: str) -> None:
    """What a client's program checks holds, in the client's own words."""
    found = ran.found(client)

    assert check in found
    assert found[check] is None


@pytest.mark.parametrize("client", CLIENTS)
def test_client_calls_nobody_but_the_appliance(ran: Clients, client: str) -> None:
    """No name was asked for and no connection tried that leads outside."""
    assert ran.found(client)["network"] is None


@pytest.mark.parametrize("client", CLIENTS)
def test_guard_of_the_client_is_in_force(ran: Clients, client: str) -> None:
    """Its control: in the same environment a call outside is refused, and noticed."""
    found = Clients(ran._running, _fresh(ran._folder)).found(client, "outside")

    assert "tests reach nothing but loopback" in str(found["outside.calls_outside"])
    assert found["network"]


def _fresh(folder: Path) -> Path:
    made = folder / f"again-{len(list(folder.iterdir()))}"
    made.mkdir()
    return made


def test_every_environment_is_used() -> None:
    """A lock that no test runs is work for nobody."""
    assert {*clients.names(), "js"} - {"schemathesis"} == CLIENTS.keys()
