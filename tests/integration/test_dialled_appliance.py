"""A whole gateway whose worker systemd's own program starts, with the real model and with the fake one."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from appliance.core import Role
from tests.activation import REAL, handing_out, needs_systemd, wait
from tests.harness import Gateway, appliance
from tests.homes import make_home

pytestmark = [needs_systemd]
ASK = {"model": "default", "max_tokens": 8, "messages": [{"role": "user", "content": "Name a colour."}]}


def configured(path: Path) -> str:
    return f"[audit]\norigin = 'test/dialled/1'\n[engine]\nn_ctx = 2048\nworker_socket = '{path}'\n"


@pytest.mark.model
def test_real_model_answers_from_behind_a_socket(tmp_path: Path) -> None:
    """It loads, is tuned, answers, dies and comes back, as a child of the gateway would."""
    with handing_out(tmp_path / "worker.sock", REAL) as path:
        running = Gateway(make_home(tmp_path / "home", toml=configured(path)), worker="model").start()
        try:
            with running.client() as client:
                first = client.post("/v1/chat/completions", json=ASK, timeout=60)
                assert first.status_code == 200
                assert first.json()["usage"]["completion_tokens"] > 0
            assert list(running.home.tuning.iterdir()) != []
            lines = [json.loads(each) for each in running.log_file.read_text().splitlines()]
            (pid,) = [each["pid"] for each in lines if each["event"] == "worker_ready"]
            assert b"engine.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
            os.kill(pid, signal.SIGKILL)
            with running.client(Role.OPERATOR) as client:
                for _ in range(400):
                    if "worker_down" in running.log_file.read_text() and client.get("/readyz").is_success:
                        break
                    wait()
            with running.client() as client:
                assert client.post("/v1/chat/completions", json=ASK, timeout=60).status_code == 200
        finally:
            running.stop()


def test_doctor_sees_the_socket_and_the_host(tmp_path: Path) -> None:
    """Every line says its level; a socket that is missing is red, and says what to do."""
    path = tmp_path / "worker.sock"
    home = make_home(tmp_path / "home", toml=configured(path))
    red = appliance("doctor", "--json", "--home", str(home.root), check=False)
    with handing_out(path):
        green = appliance("doctor", "--json", "--home", str(home.root), check=False)
    found = [{each["name"]: each for each in json.loads(done.stdout)["checks"]} for done in (red, green)]

    assert (found[0]["worker"]["level"], found[1]["worker"]["level"]) == ("fail", "ok")
    assert "appliance-worker.socket" in found[0]["worker"]["hint"]
    assert red.returncode == 1
    named = {"processor", "memory", "sandbox", "swap", "egress filter", "FIPS mode", "ports"}
    assert named <= found[1].keys()
    assert {each["level"] for each in found[1].values()} <= {"ok", "warn", "fail"}
    assert all(each["hint"] for each in found[1].values() if each["level"] != "ok")
