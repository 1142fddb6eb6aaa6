"""Installed, upgraded, gone back: with real processes, environments, databases, on a root of its own."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.bundle import manifest
from appliance.bundle.install.steps import State
from tests.installs import Host


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path / "host")
    yield made
    made.close()


def test_bare_host_serves_after_the_first_installation(host: Host) -> None:
    """It answers, its record is whole and tells of the bundle; nothing staged is left."""
    host.install()

    assert host.current() == 1
    assert host.ask() == 200
    assert host.told() == ["bundle:verified", "bundle:installed"]
    assert not (host.site.staging / "1").exists()


def test_upgrade_keeps_the_record_and_the_release_before(host: Host) -> None:
    """With the same schema: every entry stays, the old release can be gone back to, and back again."""
    host.install()
    host.ask()
    before = host.entries()
    done = host.run("upgrade", "--staged", str(host.stage(2)))
    assert done.returncode == 0, done.stderr
    assert host.current() == 2
    assert host.ask() == 200
    assert host.entries()[: len(before)] == before

    back = host.run("rollback")

    assert back.returncode == 0, back.stderr
    assert host.current() == 1
    assert host.entries()[: len(before)] == before
    assert host.ask() == 200
    assert host.told()[2:] == ["bundle:verified", "bundle:installed", "bundle:installed"]
    assert host.run("rollback").returncode == 0
    assert host.current() == 2


def test_schema_changes_with_nobody_inside_until_it_is_committed(host: Host) -> None:
    """Callers wait during the probation of another schema, and come in behind the commit."""
    host.install()
    done = host.run("upgrade", "--staged", str(host.stage(2, schema="0002")))

    assert done.returncode == 0, done.stderr
    assert host.ask() == 200
    assert "upgraded to 0002" in host.entries()
    copy = next(host.site.backups.iterdir()) / "files"
    assert (copy / "appliance.db").exists()
    assert not (copy / "shares.db").exists()
    assert [each.name for each in (copy / "keys").iterdir()] == ["log.vkey"]


def test_sealed_home_is_opened_for_another_schema(host: Host, tmp_path: Path) -> None:
    """Without what opens it nothing is stopped; with it, given by standard input alone, it is upgraded."""
    host.install()
    (host.site.home / "keys/home.slots").write_text("{}")
    staged = str(host.stage(2, schema="0002"))
    refused = host.run("upgrade", "--staged", staged)
    assert (refused.returncode, "sealed" in refused.stderr) == (20, True)
    assert (host.current(), host.ask()) == (1, 200)
    secret = tmp_path / "secret"
    secret.write_text("what opens it\n")
    done = host.run("upgrade", "--staged", staged, "--unlock", str(secret))
    assert done.returncode == 0, done.stderr
    assert (host.current(), host.ask()) == (2, 200)
    assert not any(b"what opens it" in each.read_bytes() for each in host.root.rglob("*.jsonl"))


@pytest.mark.parametrize(
    ("fails", "schema", "code"),
    [
        ("migration", "0002", 40),
        ("answer", "0001", 41),
        ("start", "0001", 41),
        ("start", "0002", 41),
        ("health", "0001", 41),
        ("health", "0002", 41),
    ],
)
def test_what_fails_ends_with_the_old_release_serving(host: Host, fails: str, schema: str, code: int) -> None:
    """Each failure has its code; the record is whole, lost nothing that anybody did, and says why."""
    host.install()
    host.ask()
    before = host.entries()
    done = host.run("upgrade", "--staged", str(host.stage(2, schema=schema, fails=[fails])))

    assert done.returncode == code, done.stderr
    assert host.current() == 1
    assert host.ask() == 200
    assert host.entries()[: len(before)] == before
    assert host.told()[2:] == ["bundle:verified", "bundle:rolled_back"]
    assert host.states()[-2:] == [State.ROLLING_BACK, State.ROLLED_BACK]


def test_going_back_that_fails_is_said_and_mended_later(host: Host) -> None:
    """50 where the old release does not come up again; once its cause is gone, `settle` ends it."""
    host.install()
    program = host.site.current.resolve() / "bin/appliance"
    words = program.read_text()
    staged = host.stage(2, fails=["health"])
    done = host.run("upgrade", "--staged", str(staged), kill=f"sh:{State.SWITCHED}:chmod 644 {program}")
    assert done.returncode == 50, done.stderr

    program.chmod(0o755)
    assert program.read_text() == words
    mended = host.run("settle")

    assert mended.returncode == 0, mended.stderr
    assert host.current() == 1
    assert host.ask() == 200


def test_only_one_installer_works(host: Host) -> None:
    """30 for a second one; the service's own start passes."""
    host.install()
    with host.site.lock.open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        assert host.run("upgrade", "--staged", str(host.stage(2))).returncode == 30
        assert host.run("settle").returncode == 0


def test_older_bundle_is_refused(host: Host) -> None:
    """102, on the record; it goes in where the operator insists."""
    host.install(3)
    staged = host.stage(2)

    assert host.run("upgrade", "--staged", str(staged)).returncode == 102
    assert host.told()[2:] == ["bundle:refused"]
    assert host.current() == 3
    done = host.run("upgrade", "--staged", str(staged), "--allow-downgrade")
    assert done.returncode == 0, done.stderr
    assert host.current() == 2


def test_required_stop_on_the_way_is_respected(host: Host) -> None:
    """20 names the bundle that has to come first; by way of it the upgrade goes through."""
    host.install()
    last = host.stage(5, upgrade_from=manifest.UpgradeFrom(min_serial=3, via=(3,)))
    refused = host.run("upgrade", "--staged", str(last))
    assert refused.returncode == 20
    assert "bundle 3" in refused.stderr

    assert host.run("upgrade", "--staged", str(host.stage(3))).returncode == 0
    assert host.run("upgrade", "--staged", str(last)).returncode == 0
    assert host.current() == 5


def test_older_schema_comes_back_only_where_the_operator_says_what_it_costs(host: Host) -> None:
    """Refused with the number of entries at stake; with --restore-backup the record of before is put back."""
    host.install()
    assert host.run("upgrade", "--staged", str(host.stage(2, schema="0002"))).returncode == 0
    host.ask()

    refused = host.run("rollback")
    assert refused.returncode == 20
    assert "entries after it would be missing" in refused.stderr
    assert host.ask() == 200

    done = host.run("rollback", "--restore-backup")
    assert done.returncode == 10, done.stderr
    assert host.current() == 1
    assert "backup.md" in done.stderr


def test_uninstall_leaves_the_data_and_purge_does_not(host: Host) -> None:
    """It says what remains; nothing of it runs."""
    host.install()
    done = host.run("uninstall", "--yes")

    assert done.returncode == 0, done.stderr
    assert f"remains: {host.site.home}" in done.stdout
    assert (host.site.home / "appliance.db").exists()
    assert not host.site.releases.exists()
    assert not (host.root / "etc/init.d/appliance").exists()
    assert host.run("uninstall", "--yes", "--purge").returncode == 0
    assert not host.site.state.exists()
