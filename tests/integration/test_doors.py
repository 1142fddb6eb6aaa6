"""A gateway while an upgrade may yet be undone: it tests itself for the installer, and lets nobody in."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import asking
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.commands import CreateKey, Problem
from appliance.core import Role
from tests.harness import PROGRAM, Gateway, appliance, question
from tests.homes import make_home

pytestmark = pytest.mark.integration


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway whose installer has not committed yet."""
    running = Gateway(home=make_home(tmp_path / "home"))
    running.start()
    running.key(Role.KIOSK)
    running.stop()
    running.home.probation.touch()
    running.start()
    yield running
    running.stop()


def test_callers_wait_outside_and_come_in_behind_the_commit(waiting: Gateway) -> None:
    """503 with a time to try again, on both ports; nothing of it is on the record; then answers as ever."""
    with waiting.client() as client:
        refused = client.post("/v1/chat/completions", json=question("echo: x"))
        page = client.get(f"{waiting.console_url}/login")
        alive = client.get("/healthz")
    assert (refused.status_code, page.status_code, alive.status_code) == (503, 503, 200)
    assert refused.headers["retry-after"] == "5"
    assert refused.json()["error"]["code"] == "upgrading"
    found = {each.kind for each in query.search(waiting.home.database, limit=1000)}
    assert not found & {Kind.REQUEST_OPENED, Kind.REQUEST_REFUSED}

    appliance("bundle", "open", home=waiting.home)

    assert waiting.chat("echo: x").status_code == 200
    assert not waiting.home.probation.exists()


def test_its_own_test_is_an_answer_on_the_record(waiting: Gateway) -> None:
    """`doctor --live` has the model answer, with opening and closing; a look alone writes nothing."""
    found = json.loads(appliance("doctor", "--live", "--json", home=waiting.home).stdout)
    last = query.search(waiting.home.database, limit=2)
    assert [each.kind for each in last] == [Kind.REQUEST_CLOSED, Kind.REQUEST_OPENED]
    assert found["record"].endswith(f"/{last[1].seq}")

    appliance("doctor", "--live", "--no-answer", home=waiting.home)

    assert query.search(waiting.home.database, limit=1)[0].seq == last[0].seq


def test_what_could_be_undone_is_not_begun(waiting: Gateway) -> None:
    """Other commands of the host are refused; what becomes of a bundle is recorded."""
    answer = asking.send(waiting.home.control_socket, CreateKey(name="desk", role=Role.KIOSK))
    assert isinstance(answer, Problem)
    assert answer.code == "upgrading"

    public = {"serial": 2, "release": "1.2.0", "sums_sha256": "00", "reason": "release_unhealthy"}
    entry = {"event": "bundle:rolled_back", "public": public, "content": {"who": "ada"}}
    subprocess.run(
        [str(PROGRAM), "bundle", "tell", "--home", str(waiting.home.root)],
        check=True,
        input=json.dumps(entry),
        text=True,
        capture_output=True,
    )

    found = query.search(waiting.home.database, limit=1)[0]
    assert (found.kind, found.public) == (Kind.BUNDLE_ROLLED_BACK, public)


def test_no_gateway_no_test(tmp_path: Path) -> None:
    """Where none runs, `doctor --live` says so."""
    done = appliance("doctor", "--live", home=make_home(tmp_path / "home"), check=False)

    assert done.returncode == 3
    assert "no gateway runs" in done.stderr
