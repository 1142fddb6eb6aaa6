"""A witness at the console: the request by file and by picture, the answer back, and what does not hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from appliance.audit import query, witness
from appliance.audit.kinds import Kind
from appliance.core import Role
from tests.browser.rooms import Seat, seat
from tests.harness import Gateway, appliance, gateway


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with one pinned witness, whose secret lies beside the home."""
    folder = tmp_path_factory.mktemp("watched")
    with gateway(folder / "home", toml='[audit]\norigin = "agency.example/audit/1"\n') as running:
        appliance("audit", "witness", "keygen", "court.example/w1", "--out", str(folder))
        appliance("audit", "witness", "add", str(folder / "court.example_w1.vkey"), home=running.home)
        yield running


def _cosign(running: Gateway, request: Path, *extra: str) -> Path:
    folder = running.home.root.parent
    answer = request.with_suffix(".answer")
    appliance("audit", "witness", "cosign", str(request), "--key", str(folder / "court.example_w1.witness"),
              "--log", str(running.home.keys / "log.vkey"), "--out", str(answer), *extra)  # fmt: skip
    return answer


def _download(person: Seat, name: str) -> Path:
    with person.page.expect_download() as waiting:
        person.page.get_by_role("link", name="Download the request").click()
    path = person.gateway.home.root.parent / name
    waiting.value.save_as(path)
    return path


def witness_picture(person: Seat) -> None:
    """witness.png: the page after a visit."""
    person.page.set_input_files("#answer", _cosign(person.gateway, _download(person, "picture.txt")))
    person.page.get_by_role("button", name="Check it").click()
    person.picture("witness")


def test_witness_carries_a_request_out_and_an_answer_in(
    watched: Gateway, chromium: Browser, pictures: Path
) -> None:
    """File out, cosigned elsewhere, file in: the visit stands on the record and on the page."""
    with seat(watched, chromium, pictures) as person:
        page = person.log_in("Wil Oak", Role.WITNESS)
        assert "No visit yet" in page.inner_text("main")
        witness_picture(person)

        assert "court.example/w1 cosigned" in page.get_by_role("status").inner_text()
        assert "Visited in time" in page.inner_text("main")
        assert len(query.search(watched.home.database, kind=Kind.WITNESS_COSIGNED)) == 2


def test_request_is_a_picture_too_and_the_same_one(
    watched: Gateway, chromium: Browser, pictures: Path
) -> None:
    """The QR code is drawn in the page, large enough for a camera; the file is what the witness parses."""
    with seat(watched, chromium, pictures, javascript=False) as person:
        page = person.log_in("Wil Oak", Role.WITNESS)
        box = page.locator("svg.qr").bounding_box()
        assert box is not None
        assert box["width"] > 250
        request = witness.parse(_download(person, "parsed.txt").read_bytes())
        assert f"\n{request.note.splitlines()[1]}\n" in page.locator("pre.note").text_content()  # type: ignore[operator]


@pytest.mark.parametrize("lie", ["nonsense", "changed", "twice", "empty"])
def test_answer_that_does_not_hold_is_told_and_recorded(
    watched: Gateway, chromium: Browser, pictures: Path, lie: str
) -> None:
    """Not a note, another root, the same word again, nothing at all: refused with a reason."""
    with seat(watched, chromium, pictures) as person:
        page = person.log_in("Wil Oak", Role.WITNESS)
        text = {"nonsense": "<script>alert(1)</script>{{7*7}}\x1b[2J", "empty": ""}.get(lie)
        if text is None:
            person.open("/witness?old=0")  # of a witness that has forgotten everything
            request = _download(person, f"{lie}.txt")
            text = _cosign(watched, request, "--state", str(request.with_suffix(".state"))).read_text()
        if lie == "changed":
            text = re.sub(r"\n([0-9]+)\n", lambda found: f"\n{int(found[1]) + 1}\n", text, count=1)
        if lie == "twice":
            page.fill("#text", text)
            page.get_by_role("button", name="Check it").click()
        before = query.search(watched.home.database, limit=1)[0].seq
        page.fill("#text", text)
        page.get_by_role("button", name="Check it").click()

        assert page.get_by_role("alert").inner_text()
        newest = query.search(watched.home.database, kind=Kind.REQUEST_REFUSED, limit=1)[0]
        assert (newest.seq > before, newest.public["route"]) == (True, "/witness")


def test_auditor_sees_the_witnesses_too(watched: Gateway, chromium: Browser, pictures: Path) -> None:
    """An auditor finds the page in the menu; an operator does not."""
    with seat(watched, chromium, pictures) as person:
        page = person.log_in("Ida Vale", Role.AUDITOR)
        page.get_by_role("link", name="Witness").click()
        assert "court.example/w1" in page.inner_text("main")
    with seat(watched, chromium, pictures) as person:
        page = person.log_in("Otto Hill", Role.OPERATOR)
        assert page.get_by_role("link", name="Witness").count() == 0
