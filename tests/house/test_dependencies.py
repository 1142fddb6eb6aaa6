"""No dependency calls anybody: what each of them could is known, and an upgrade that brings more is seen."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.api.app import create_routes
from tests.house import dependencies

ROOT = dependencies.ROOT
KNOWN = ROOT / "tests/vectors/dependencies/clients.json"
GUIDE = ROOT / "deploy/guides/security.md"
# What a process imports of all that, and for whose sake; no socket is opened by importing.
LOADED = {
    "appliance.cli.serve": {
        "http.client",
        "http.server",
        "socketserver",
        "urllib.request",
    },  # prometheus_client
    "appliance.engine.worker.__main__": set(),
    "appliance.engine.worker.llama.backend": set(),
}


def test_what_dependencies_could_connect_with_is_known() -> None:
    """The list is read anew: a module that imports another client is a decision, and stands in the guide."""
    assert dependencies.clients() == json.loads(KNOWN.read_text(encoding="utf-8"))


def test_the_scan_sees_clients_wherever_they_are_imported(tmp_path: Path) -> None:
    """Inside functions, by `from`, under another name."""
    source = "def f():\n    from urllib import request as r\n    import requests.adapters\nimport os.path\n"
    found = set(dependencies._imported(ast.parse(source)))
    assert found == {"urllib.request", "requests"}


@pytest.mark.parametrize("module", LOADED)
def test_processes_load_no_client_but_these(module: str) -> None:
    """In a fresh interpreter, as the process begins."""
    script = (
        f"import sys, importlib; importlib.import_module({module!r}); "
        f"print(*({set(dependencies.CLIENTS)!r} - {{'socket', 'ssl'}}) & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert set(done.stdout.split()) == LOADED[module]


def test_every_locked_package_stands_in_the_guide() -> None:
    """With what it could call; `nothing` is said of exactly those in which the scan found nothing."""
    table = GUIDE.read_text(encoding="utf-8").partition("<!-- dependencies -->")[2].partition("<!-- /")[0]
    rows = {
        match[1]: match[2] for match in re.finditer(r"^\| `([a-z0-9-]+)` \| ([^|]+) \|", table, re.MULTILINE)
    }
    quiet = {name for name, says in rows.items() if says.strip() == "nothing"}

    assert set(rows) == dependencies.locked()
    assert set(rows) - quiet == set(json.loads(KNOWN.read_text(encoding="utf-8")))


def test_the_framework_s_own_telemetry_is_off() -> None:
    """Traces, numbers, logs and the exporter that its environment could set up."""
    config = dict(create_routes()._telemetry)
    switches = ("tracing", "metrics", "logs", "operation_spans", "auto_configure")

    assert {name: config[name] for name in switches} == dict.fromkeys(switches, False)
