"""An auditor who never saw this box finds one exchange among 100,000 entries, and takes evidence away."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from playwright.sync_api import Browser

from appliance.audit import files, query
from appliance.audit.kinds import Kind
from tests import seeded
from tests.browser.auditors import CASE, PURPOSE, Auditor
from tests.browser.rooms import seat
from tests.harness import Gateway
from tests.needed import need
from tests.outside.test_recipe import PROGRAMS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
ENTRIES = 100_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose record has a hundred thousand entries."""
    root = tmp_path_factory.mktemp("seeded") / "home"
    running = Gateway(home=seeded.make_seeded(root, ENTRIES))
    try:
        yield running.start()
    finally:
        if running.process is not None and running.process.poll() is None:
            running.stop()
        shutil.rmtree(root)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A folder with nothing in it, and beside it the programs that a court's machine has."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in (*PROGRAMS, "unzip"):
        need(name, package=name)
        (programs / name).symlink_to(str(shutil.which(name)))
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def check(folder: Path, zipped: Path, vkey: str) -> str:
    """Unpack and check with sh, coreutils, xxd and openssl alone, and read what was disclosed."""
    done = subprocess.run(
        ["sh", "-c", f"unzip -q {zipped} && sh verify.sh '{vkey}' && cat *.plain.json"],
        cwd=folder,
        env={"PATH": str(folder.parent / "bin"), "TMPDIR": str(folder.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def identity_of(running: Gateway) -> Path:
    """The dev home's own auditor."""
    return running.home.keys / "dev-auditor.identity"


def test_auditor_finds_reads_verifies_and_exports_one_exchange(
    large: Gateway, chromium: Browser, pictures: Path, empty: Path
) -> None:
    """By a person's name; what leaves stands without us, and the name stands in no address and no log."""
    with seat(large, chromium, pictures) as person:
        auditor = Auditor(person).sit_down()
        auditor.search(look="exchanges", user=seeded.PERSON)
        assert len(auditor.found()) == 1
        person.picture("auditor-found")
        auditor.open_first()
        assert auditor.page.get_by_text("Proven in the tree").is_visible()
        assert seeded.QUESTION not in auditor.page.inner_text("main")
        auditor.store(identity_of(large))
        auditor.unlock()
        auditor.search(look="exchanges", user=seeded.PERSON)
        auditor.open_first()
        auditor.read()
        told = auditor.page.inner_text("main")
        assert seeded.QUESTION in told
        assert "".join(seeded.ANSWER) in told
        assert "As the header's digest says" in told
        assert "temperature" in told
        person.picture("auditor-record")
        auditor.export("opened").save_as(empty.parent / "opened.zip")
        person.picture("auditor-evidence")
        auditor.verify()
        assert "Green" in auditor.page.inner_text("main")
        person.picture("auditor-log")
        addresses = [unquote(each) for each in auditor.addresses]

    told = check(empty, empty.parent / "opened.zip", files.read_verifier(large.home).text())
    assert all(each in told for each in (seeded.QUESTION, *seeded.ANSWER)), told
    assert [each for each in addresses if "Okafor" in each or PURPOSE in each or CASE in each] == []
    assert "Okafor" not in large.log_file.read_text()


def test_every_look_at_the_record_is_on_it_first(large: Gateway, chromium: Browser, pictures: Path) -> None:
    """A search, a page of headers and a reading are an entry each; looking at a result again is none."""

    def kinds(since: int) -> list[Kind]:
        found = query.search(large.home.database, limit=1000)
        audit = {Kind.AUDIT_SEARCHED, Kind.AUDIT_READ}
        return [each.kind for each in found[::-1] if each.seq > since and each.kind in audit]

    with seat(large, chromium, pictures) as person:
        auditor = Auditor(person, name="Bea Holm").sit_down()
        before = query.search(large.home.database, limit=1)[0].seq
        auditor.search(look="exchanges")
        searched = kinds(before)
        auditor.page.reload()
        again = kinds(before)
        auditor.open_first()
        read = kinds(before)

    assert searched == again == [Kind.AUDIT_SEARCHED, Kind.AUDIT_SEARCHED]  # the list, and the timeline
    assert read == [*searched, Kind.AUDIT_READ]


def test_pages_lead_on_and_back_and_the_timeline_narrows(
    large: Gateway, chromium: Browser, pictures: Path
) -> None:
    """Older and newer pages hold other entries; a bar of the timeline is a search within its time."""
    with seat(large, chromium, pictures) as person:
        auditor = Auditor(person, name="Cy Dahl").sit_down()
        auditor.search(look="exchanges")
        person.picture("auditor-search", whole=False)
        first = auditor.found()
        auditor.press("Older")
        second = auditor.found()
        auditor.follow("Newer")
        assert auditor.found() == first
        assert not set(first) & set(second)
        assert len(first) == len(second) == 50
        auditor.page.get_by_text("As a table, to narrow the time").click()
        row = auditor.page.locator("figure table tbody tr").first
        number = row.locator("td").nth(1).inner_text()
        with auditor.page.expect_navigation():
            row.get_by_role("link").click()
        assert f"{number} counted" in auditor.page.inner_text("#volume")
        assert int(auditor.found()[0]) < int(second[-1])


def test_a_search_that_finds_nothing_says_so(large: Gateway, chromium: Browser, pictures: Path) -> None:
    """Nothing is told apart from not searched far enough, and a form that can find nothing is refused."""
    with seat(large, chromium, pictures) as person:
        auditor = Auditor(person, name="Di Wolf").sit_down()
        auditor.search(look="exchanges", user="nobody of this name")
        assert "No entry fits" in auditor.page.inner_text("main")
        auditor.search(look="exchanges", min_prompt_tokens="9", max_prompt_tokens="3")
        assert auditor.page.get_by_role("alert").is_visible()
        assert auditor.page.input_value("#min_prompt_tokens") == "9"


def test_headers_of_a_result_leave_as_a_table(large: Gateway, chromium: Browser, pictures: Path) -> None:
    """CSV of everything that the filters find, which no name and no content is in."""
    with seat(large, chromium, pictures) as person:
        auditor = Auditor(person, name="Eli Ross").sit_down()
        auditor.search(look="everything", user=seeded.PERSON)
        with auditor.page.expect_download() as waiting:
            auditor.page.get_by_role("button", name="Export").click()
        waiting.value.save_as(pictures.parent / "events.csv")

    text = (pictures.parent / "events.csv").read_text()
    assert seeded.REQUEST in text
    assert "Okafor" not in text
    assert len(text.splitlines()) == 2
