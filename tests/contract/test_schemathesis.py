"""schemathesis asks everything that the API's document allows, and a great deal that it does not.

For each role all operations that are its own: no 5xx, no status, media type, header or shape that the
document does not have, no way in without a key, nothing taken that the document forbids, 405 as it must
be. Its cases are derandomised: a run is the same every time. It lives in an environment of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.core import Role
from tests import document
from tests.harness import Gateway, gateway
from tests.needed import missing

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "bootstrap"))

import clients

EXAMPLES = 20  # of each operation, besides those of the coverage phase
SECONDS = 400
# It knows the grammar of bodies, and not what they mean: a schema-valid body may well be refused.
LEFT_OUT = "positive_data_acceptance"

pytestmark = [pytest.mark.integration, pytest.mark.timeout(SECONDS + 20)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("schemathesis") / "home") as started:
        yield started


def of(role: Role) -> dict[str, Any]:
    """The document of the operations whose first role this is; those without a key are the first role's."""
    whole = document.kept()
    paths = {
        path: {method: each for method, each in methods.items() if _first(each) is role}
        for path, methods in whole["paths"].items()
    }
    return {**whole, "paths": {path: methods for path, methods in paths.items() if methods}}


def _first(operation: dict[str, Any]) -> Role:
    return Role(operation.get("x-roles", [Role.KIOSK])[0])


def run(
    running: Gateway, folder: Path, role: Role, told: dict[str, Any], *options: str
) -> subprocess.CompletedProcess[str]:
    python = clients.find_python("schemathesis")
    if python is None:
        missing("schemathesis is not installed: make clients")
    (folder / "openapi.json").write_text(json.dumps(told))
    key = running.key(role)
    (folder / "schemathesis.toml").write_text(f'[auth.openapi.bearer]\nbearer = "{key}"\n')
    return subprocess.run(
        [
            *(str(python.with_name("st")), "run", "openapi.json", "--url", running.url, "--no-color"),
            *("--checks", "all", "--exclude-checks", LEFT_OUT, "--max-examples", str(EXAMPLES)),
            *("--phases", "examples,coverage,fuzzing", "--generation-deterministic"),
            *("--continue-on-failure", "--workers", "1", *options),
        ],
        cwd=folder,
        env={**os.environ, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.parametrize("role", [Role.KIOSK, Role.OPERATOR, Role.AUDITOR])
def test_document_keeps_what_it_promises(running: Gateway, tmp_path: Path, role: Role) -> None:
    """Thousands of requests, and no answer that is not in the document."""
    told = of(role)
    done = run(running, tmp_path, role, told)

    assert done.returncode == 0, done.stdout[-12_000:] + done.stderr[-2_000:]
    count = sum(len(methods) for methods in told["paths"].values())
    assert f"Tested: {count}" in done.stdout


def test_every_operation_is_somebodys() -> None:
    """The three roles have all operations between them."""
    told = [of(role)["paths"] for role in (Role.KIOSK, Role.OPERATOR, Role.AUDITOR)]
    found = {(path, method) for paths in told for path, methods in paths.items() for method in methods}

    assert found == {(path, method.lower()) for method, path, _ in document.operations()}


def test_broken_promises_are_found(running: Gateway, tmp_path: Path) -> None:
    """Its control: a status that the document lacks, and a field that no answer has."""
    told = of(Role.KIOSK)
    told["paths"] = {"/tokenize": told["paths"]["/tokenize"], "/detokenize": told["paths"]["/detokenize"]}
    del told["paths"]["/tokenize"]["post"]["responses"]["400"]
    told["components"]["schemas"]["DetokenizeResponse"]["required"].append("more")
    done = run(running, tmp_path, Role.KIOSK, told, "--phases", "coverage,examples")

    assert done.returncode == 1
    assert "ST103 Undocumented status code" in done.stdout
    assert "ST108 Response violates schema" in done.stdout
