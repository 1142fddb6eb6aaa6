"""The witness guide, command by command; then a log that forks, a code for the camera, and the alarm."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from appliance import config
from appliance.alone import open_log_alone
from appliance.audit import files, proof, proving
from appliance.config import Home
from appliance.core import Role
from tests.harness import PROGRAM, appliance, gateway
from tests.homes import make_home
from tests.records import assert_verified

pytestmark = pytest.mark.integration

GUIDE = Path(__file__).parents[2] / "deploy" / "guides" / "witness.md"


def commands(guide: Path) -> list[str]:
    """Every line of the guide's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", guide.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def run(line: str, folder: Path, home: Home) -> str:
    """One line of a guide, as a person types it."""
    program, *arguments = shlex.split(line)
    assert program == "appliance"
    environment = {**os.environ, "APPLIANCE_HOME": str(home.root)}
    done = subprocess.run(
        [str(PROGRAM), *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def visited(tmp_path: Path) -> tuple[Home, Path]:
    """A home whose witness was here as the guide says, and the folder with both sides' files."""
    home = make_home(tmp_path / "home")
    shutil.copy(home.keys / "log.vkey", tmp_path / "log.vkey")
    for line in commands(GUIDE):
        told = run(line, tmp_path, home)
    assert "court.example/w1: cosigned a tree of" in told
    return home, tmp_path


def test_the_guide_does_what_it_says(visited: tuple[Home, Path]) -> None:
    """Each command as it stands; then proofs carry the witness's word and the record is green."""
    home, folder = visited
    _, found = proving.proof_at(home.database, 0)
    vkeys = (folder / "court.example_w1.vkey").read_text().split()
    assert found.note.count("— court.example/w1 ") == len(vkeys) == 2
    assert proof.parse(found.encode()) == found
    assert files.read_verifier(home).name in found.note
    assert_verified(home)


def test_a_restored_copy_is_refused_and_proved(visited: tuple[Home, Path]) -> None:
    """A copy goes on by itself; the witness that saw the first gives it 409, then 422, and keeps both."""
    home, folder = visited
    copy = Home(root=folder / "copy")
    shutil.copytree(home.root, copy.root)
    for which in (home, copy, copy):
        with open_log_alone(which, config.load(which)):
            pass
    state = "--key", str(folder / "court.example_w1.witness")
    request = folder / "next.txt"
    appliance("audit", "witness", "export", "--out", str(request), home=home)
    appliance("audit", "witness", "cosign", str(request), *state)
    appliance("audit", "witness", "export", "--out", str(request), home=copy)
    conflict = appliance("audit", "witness", "cosign", str(request), *state, check=False)
    assert (conflict.returncode, "409" in conflict.stderr) == (1, True), conflict.stderr
    hint = re.search(r"--old (\d+)", conflict.stderr)
    assert hint is not None
    appliance("audit", "witness", "export", "--old", hint[1], "--out", str(request), home=copy)
    forked = appliance("audit", "witness", "cosign", str(request), *state, check=False)
    assert (forked.returncode, "422" in forked.stderr) == (1, True), forked.stderr
    origin = files.read_verifier(home).name
    assert forked.stderr.count(f"— {origin} ") == 2
    known = appliance(
        "audit", "witness", "status", "--state", str(folder / "court.example_w1.state"), "--json"
    )
    (log,) = json.loads(known.stdout)["logs"]
    assert (log["origin"], len(log["contradictions"])) == (origin, 1)


def test_requests_and_answers_fit_into_codes(visited: tuple[Home, Path]) -> None:
    """A QR code on the terminal, in SVG and in PNG; the long signature does not fit and is left out."""
    home, folder = visited
    shown = appliance("audit", "witness", "export", "--qr", home=home).stdout
    assert len(shown.splitlines()) > 20
    for name, begin in (("code.svg", b"<?xml"), ("code.png", b"\x89PNG")):
        appliance("audit", "witness", "export", "--qr", "--out", str(folder / name), home=home)
        assert (folder / name).read_bytes().startswith(begin)
    refused = appliance(
        "audit", "witness", "export", "--qr", "--out", str(folder / "x.txt"), home=home, check=False
    )
    assert refused.returncode == 3
    request = folder / "again.txt"
    appliance("audit", "witness", "export", "--out", str(request), home=home)
    key = str(folder / "court.example_w1.witness")
    code = str(folder / "answer.svg")
    said = appliance(
        "audit", "witness", "cosign", str(request), "--key", key, "--qr", "--out", code, "--json"
    )
    answer = folder / "scanned.txt"
    answer.write_text(json.loads(said.stdout)["answer"])
    appliance("audit", "witness", "import", str(answer), home=home)
    again = appliance("audit", "witness", "import", str(answer), home=home, check=False)
    assert again.returncode == 2
    assert_verified(home)


def test_the_gateway_tells_when_the_witness_was_here(visited: tuple[Home, Path]) -> None:
    """`/readyz` and `/metrics` say who cosigned what and whether that is long ago; service goes on."""
    home, folder = visited
    with gateway(home.root) as running:
        headers = {"authorization": f"Bearer {running.key(Role.OPERATOR)}"}
        ready = httpx.get(f"{running.url}/readyz", headers=headers)
        assert ready.status_code == 200
        told = ready.json()["witness"]
        assert (told["num_witnesses"], told["is_stale"]) == (1, False)
        assert told["tree_size"] > 0
        numbers = httpx.get(f"{running.url}/metrics", headers=headers).text
        assert "appliance_audit_witness_stale 0.0" in numbers
        request, answer = folder / "r.txt", folder / "a.txt"
        appliance("audit", "witness", "export", "--out", str(request), home=home)
        key = str(folder / "court.example_w1.witness")
        appliance("audit", "witness", "cosign", str(request), "--key", key, "--out", str(answer))
        appliance("audit", "witness", "import", str(answer), home=home)
        later = httpx.get(f"{running.url}/readyz", headers=headers).json()["witness"]
        assert later["tree_size"] > told["tree_size"]
