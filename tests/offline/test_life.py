"""From a stick to an answer, through upgrades that go well and badly, to a bare host again; on each system.

The tests are steps of one life, in order. On Debian 12 the box has no network at all; on Debian 13 it gets
one behind the first answers, with kiosks in its LAN, a default route, and a trap at its end. Every program is
traced.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import appliance
from appliance.bundle.refusals import Exit
from tests.offline import egress, times
from tests.offline.box import Box
from tests.offline.host import PROBATION, PROGRAM, STATE, Host, answered, seq_of, summary
from tests.offline.lan import OUTSIDE, RESOLVER, lan
from tests.offline.releases import NOTE, Sticks
from tests.offline.roots import SYSTEMS, System

pytestmark = pytest.mark.timeout(600)
# Files that useradd and userdel write, whoever was added.
ACCOUNTS = tuple(
    f"/etc/{name}" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid", ".pwd")
)
COPY = "/srv/copy"


@pytest.fixture(scope="module", params=SYSTEMS, ids=lambda each: each.suite)
def life(
    request: pytest.FixtureRequest,
    root_of: dict[System, Path],
    sticks: Sticks,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Host, ExitStack]]:
    """The host, and what is to be closed behind its last step."""
    place = tmp_path_factory.mktemp(request.param.suite)
    media = {
        "first": sticks.first.folder,
        "second": sticks.second.folder,
        "broken": sticks.broken.folder,
        "people": sticks.people,
    }
    box = Box([root_of[request.param]], place / "box", media, trace=place / "trace").start()
    with ExitStack() as stack:
        stack.callback(box.close)
        yield Host(request.param, box, sticks), stack


@pytest.fixture
def host(life: tuple[Host, ExitStack]) -> Host:
    """The host, as the step before left it."""
    assert not life[0].failed, f"an earlier step failed: {life[0].failed}"
    return life[0]


def test_a_changed_copy_is_refused_before_anything_of_it_runs(host: Host) -> None:
    """The script that is four typed commands: the signers' keys on paper, against a copy of the stick."""
    host.operator("cp", "-r", "/media/first", COPY)
    host.operator("sh", "-c", f"cd {COPY} && sh verify.sh {paper(host)}")
    host.operator("sh", "-c", f"printf x >> {COPY}/app/appliance/errors.py")

    refused = host.operator("sh", "-c", f"cd {COPY} && sh install.sh {paper(host)}", expect=None)

    assert refused.code == Exit.WRONG_DIGEST
    assert "app/appliance/errors.py" in refused.out + refused.err
    assert host.box.run("ls", "/opt").out == ""
    host.operator("rm", "-r", COPY, STATE)


def test_a_stick_becomes_an_appliance(host: Host) -> None:
    """Copied, verified, tried, installed: the service runs, as a user of its own."""
    chosen = "--config /media/people/appliance.toml --auditor /media/people/alice.recipient"
    words = f"{paper(host)} -- {chosen} {' '.join(PROBATION)}"
    with times.told(host, "installed"):
        host.operator("sh", "-c", f"cd /media/first && sh install.sh {words}")

    assert host.current() == "1-0.9.1"
    assert host.states()[-1] == ("install", 1, "tidied")
    host.service("status")
    owners = {Path(f"/proc/{pid}").stat().st_uid for pid in host.box.processes()}
    assert owners == {int(host.box.run("id", "-u", "appliance").out)}


def test_a_kiosk_is_answered(host: Host) -> None:
    """Over HTTP, and the answer names its record."""
    made = host.ask("key", "create", "lobby-1", "--role", "kiosk")
    host.key = str(made["token"])
    with times.told(host, "first answer"):
        answer = host.wait_until_it_answers()

    assert answer["finish_reason"] in {"stop", "length"}
    assert answer["record"]
    times.write(host)


def test_an_auditor_finds_the_answer_on_a_verified_record(host: Host) -> None:
    """The record is verified, and the question is found in it by what it says."""
    answer = host.chat()

    assert host.verified()["green"] is True
    opened = [each["seq"] for each in host.recorded("request:opened")]
    assert seq_of(answer["record"]) in opened
    identity = ("--identity", "/run/alice.identity")
    host.operator("install", "-o", "appliance", "-m", "600", "/media/people/alice.identity", identity[1])
    found = host.ask("audit", "search", "--text", "room 12", "--purpose", "a visitor's complaint", *identity)
    assert seq_of(answer["record"]) in {seq for each in found["matches"] for seq in each["seqs"]}
    host.operator("rm", identity[1])


def test_nothing_was_fetched_and_nothing_tried(
    host: Host, life: tuple[Host, ExitStack], tmp_path: Path
) -> None:
    """Until here there was no way out, and no program asked for one."""
    assert_nothing_left(host)
    if host.system is SYSTEMS[-1]:
        host.network = life[1].enter_context(lan(host.box, host.box.place / "events"))
        host.wait_until_it_answers()


def test_a_killed_upgrade_leaves_the_old_release(host: Host) -> None:
    """SIGKILL of the installer behind its switch: the next start of the service goes back."""
    if host.network is not None:
        pytest.skip("once is enough; every state of the installer is killed in tests/unit/bundle/install")
    staged = host.take("second", 2)
    upgrade = host.box.begin(PROGRAM, "bundle", "upgrade", "--staged", staged, "--probation-seconds", "300")
    host.wait_for_state("switched", seconds=200)
    assert host.box.kill("bundle upgrade") >= 1
    upgrade.process.wait(20)
    host.service("stop")
    host.service("start")

    host.wait_until_it_answers()
    assert host.current() == "1-0.9.1"
    assert host.states()[-1] == ("upgrade", 2, "rolled_back")
    assert host.verified()["green"] is True


def test_an_upgrade_under_load_loses_no_answer(host: Host) -> None:
    """Kiosks wait or are told to come back; whatever was answered is on the verified record."""
    staged = host.take("second", 2)
    load = host.under_load()
    load.wait_for_answers(3)
    with times.told(host, "upgrade"):
        host.upgrade(staged)
    load.wait_for_answers(3)
    attempts = load.stop()

    host.counts["upgrade under load"] = summary(attempts)
    assert host.current() == "2-0.9.2"
    assert json_version(host) == "0.9.2"
    assert (
        NOTE.removeprefix("app/").rpartition("/")[2]
        in host.box.run("ls", "/opt/appliance/current/app/deploy/guides").out
    )
    assert_only_closed_doors(attempts)
    assert_on_the_record(host, attempts)
    assert [each["public"]["serial"] for each in host.recorded("bundle:installed")] == [1, 2]


def test_an_upgrade_that_fails_rolls_itself_back(host: Host) -> None:
    """A release that migrates, answers nobody and calls home: noticed, and the old one serves again."""
    before = host.verified()
    assert_nothing_left(host)
    staged = host.take("broken", 3)
    load = host.under_load()
    load.wait_for_answers(2)
    refused = host.upgrade(staged, "--start-seconds", "10", expect=Exit.UNHEALTHY)
    host.guilty.append(host.box.traces()[-1])
    load.wait_for_answers(3)
    attempts = load.stop()

    assert egress.foreign(host.guilty[-1]) == [f"sendto {OUTSIDE} 443"]
    if host.network is not None:
        host.num_leaked = host.network.counters()["leak"]
        assert host.num_leaked > 0
    host.counts["failing upgrade under load"] = summary(attempts)
    assert refused.err
    assert host.current() == "2-0.9.2"
    assert host.states()[-1] == ("upgrade", 3, "rolled_back")
    assert_only_closed_doors(attempts)
    assert_on_the_record(host, attempts)
    assert host.verified()["entries"] > before["entries"]
    assert [each["public"]["serial"] for each in host.recorded("bundle:rolled_back")][-1] == 3


def test_the_operator_goes_back_by_hand(host: Host) -> None:
    """The kept release needs no medium."""
    host.operator(PROGRAM, "bundle", "rollback", *PROBATION)

    host.wait_until_it_answers()
    assert host.current() == "1-0.9.1"
    assert json_version(host) == appliance.__version__
    assert host.verified()["green"] is True
    receipts = json.loads(host.operator(PROGRAM, "bundle", "receipts", "--json").out)["receipts"]
    assert {each["serial"] for each in receipts} >= {1, 2}
    assert all(each["is_good"] for each in receipts)


def test_nothing_left_the_host_in_all_its_life(host: Host) -> None:
    """No route, no attempt; and with a LAN, a default route and a trap: no packet but to its own callers."""
    assert_nothing_left(host)
    if host.network is not None:
        assert host.network.counters()["lan"] > 100
        # The control: the counters and the trap still see what leaves.
        host.box.python("import socket\ntry: socket.getaddrinfo('leak.example', 80)\nexcept OSError: pass")
        assert host.network.counters()["leak"] > host.num_leaked
        assert set(host.network.caught()) == {"name leak.example"}


def test_an_appliance_is_taken_off_the_host(host: Host) -> None:
    """Nothing runs, nothing is left but what it said; with --purge not even that."""
    purge = ("--purge",) if host.network is not None else ()
    said = json.loads(host.operator(PROGRAM, "bundle", "uninstall", "--yes", "--json", *purge).out)
    remains = tuple(f"{each}/" for each in said["remains"] if each.startswith("/"))
    left = {each for each in host.left() if not f"{each}/".startswith(remains)} - {RESOLVER}

    assert not [line for line in host.box.processes().values() if "appliance" in line]
    assert {each for each in left if not each.startswith(ACCOUNTS)} == set()
    assert bool(remains) is (not purge)
    is_known = host.box.run("id", "appliance", expect=None).code == 0
    assert is_known is (not purge)
    times.write(host)


def paper(host: Host) -> str:
    """Two fingerprints, typed."""
    return " ".join(host.sticks.paper[:2])


def json_version(host: Host) -> str:
    return host.operator(PROGRAM, "--version").out.split()[-1]


def assert_nothing_left(host: Host) -> None:
    """No call in any trace; where there is a network no packet either, and nothing in the trap."""
    traces = [each for each in host.box.traces() if each not in host.guilty]
    assert sum(map(egress.num_calls, traces)) > 50
    assert {found for each in traces for found in egress.foreign(each)} == set()
    if host.network is not None:
        assert host.network.counters()["leak"] == host.num_leaked
        assert host.network.caught() == []


def assert_only_closed_doors(attempts: list[dict[str, object]]) -> None:
    """Whoever was not answered found nobody listening or was told to come back; nobody was cut off."""
    ended = summary(attempts)
    closed = ("503 ", "refused: ConnectionRefusedError", "refused: ConnectionResetError")
    assert all(each == "200" or each.startswith(closed) for each in ended), ended


def assert_on_the_record(host: Host, attempts: list[dict[str, object]]) -> None:
    """Each answer's opening and closing."""
    seqs = {seq_of(str(each["record"])) for each in answered(attempts)}
    opened = {each["seq"]: each["request_id"] for each in host.recorded("request:opened")}
    closed = {each["request_id"] for each in host.recorded("request:closed")}
    assert seqs
    assert seqs <= set(opened)
    assert {opened[each] for each in seqs} <= closed
    assert host.verified()["green"] is True
