"""A home comes back on a machine that has nothing: what it takes, what is refused, what stays erased."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from appliance import boxing, config, db, durable, restore
from appliance.accounts import codes
from appliance.alone import open_log_alone
from appliance.audit import boxes, checkpoint, files, proving, query, witness
from appliance.audit.acts import Draft
from appliance.audit.kinds import Kind
from appliance.audit.recipients import Identity
from appliance.audit.witness import NotCosigned, Status
from appliance.boxing import Unboxed, Wanted
from appliance.cli.verifying import second_reading
from appliance.config import Home
from appliance.errors import ApplianceError, RequestError, SetupError
from tests.acts import dev_auditor, erase, signed, with_member
from tests.clocks import ManualClock
from tests.homes import make_home
from tests.records import assert_verified
from tests.restored import backed_up, begin, content_of, drafted, recovery_of, renamed, said
from tests.starter import link_into

FIPS = 'profile = "dev"\n[audit]\norigin = "box.example/audit/1"\n[crypto]\nprofile = "fips"\n'


@dataclass(frozen=True, slots=True)
class Carried:
    """What lies on a shelf when a home is gone."""

    box: Path
    database: Path
    shares: Path
    recovery: Identity
    auditor: Identity
    privacy: Identity
    kept_seq: int
    erased_seq: int
    head: Path  # of the lost machine's last moment: newer than the box's

    def wanted(self) -> Wanted:
        return Wanted(self.box)


async def lost(home: Home, clock: ManualClock, shelf: Path) -> Carried:
    """Content of two people, of whom one was erased; a backup; one more entry; and the home is gone."""
    shelf.mkdir()
    recovery, auditor, privacy = recovery_of(home), dev_auditor(home), Identity.generate("privacy")
    if config.load(home).crypto.profile == "fips":
        privacy = Identity.generate("privacy", auditor.algorithms)
    with open_log_alone(home, config.load(home), clock) as alone:
        draft: Draft = with_member(alone.audit.policy, alone.audit.origin, privacy)
        await alone.custody.change_policy(signed(draft, auditor))
        kept = alone.audit.append_sync(said("canary-kept", "kept"))
        doomed = alone.audit.append_sync(said("canary-erased", "doomed"))
        await alone.custody.hold(api_key="", user="kept", since_us=0, until_us=None, reason="a case")
        before = await backed_up(alone, home, clock)
        shutil.copy(before.shares, shelf / "kept-too-long.backup")
        clock.advance(1)
        await erase(alone, auditor, privacy, key="key", user="doomed")
        clock.advance(1)
        await backed_up(alone, home, clock)
        alone.audit.append_sync(said("canary-lost", "other"))
    found = {path.name.partition("-")[0]: path for path in sorted(home.backups.iterdir())}
    for path in [*home.backups.iterdir(), home.head]:
        shutil.copy2(path, shelf)
    shutil.rmtree(home.root)
    return Carried(
        box=shelf / found["box"].name,
        database=shelf / found["appliance"].name,
        shares=shelf / found["shares"].name,
        recovery=recovery,
        auditor=auditor,
        privacy=privacy,
        kept_seq=kept.seq,
        erased_seq=doomed.seq,
        head=shelf / "head",
    )


def bring_back(home: Home, clock: ManualClock, carried: Carried, wanted: Wanted | None = None) -> Unboxed:
    return boxing.restore_box(
        home, clock, wanted or carried.wanted(), carried.recovery, verify=second_reading
    )


def keep_auditor(home: Home, carried: Carried) -> None:
    """For helpers that read as the auditor of profile dev; the box holds no identity."""
    durable.write_file(home.keys / "dev-auditor.identity", carried.auditor.text().encode())


@pytest.fixture(params=["standard", "fips"])
def profiled(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    return make_home(tmp_path / "home", toml=FIPS if request.param == "fips" else "")


async def test_drill(profiled: Home, clock: ManualClock, tmp_path: Path) -> None:
    """Everything is gone and comes back: green, readable, going on, on the record; what was erased is not."""
    vkey = files.read_verifier(profiled).text()
    carried = await lost(profiled, clock, tmp_path / "shelf")
    home = Home(tmp_path / "new" / "machine")

    done = bring_back(home, clock, carried)

    assert done.database is not None
    assert (done.vkey, done.database.closed, done.num_erased, done.awaited) == (vkey, "", 0, "")
    assert done.num_shares is not None
    kinds = [each.kind for each in query.search(home.database, limit=4)]
    assert kinds == [Kind.SHARES_RESTORED, Kind.DATABASE_RESTORED, Kind.BOX_RESTORED, Kind.LOG_STARTED]
    (entry,) = query.search(home.database, kind=Kind.BOX_RESTORED)
    assert entry.public == {"backup_sha256": db.digest_of(carried.box), "tree_size": done.head_size}
    assert not home.restored.exists()
    assert list(home.keys.glob("*.identity")) == []
    link_into(home)
    keep_auditor(home, carried)
    assert content_of(home, home.database, carried.kept_seq) == {"text": "canary-kept"}
    assert content_of(home, home.database, carried.erased_seq) is None
    with open_log_alone(home, config.load(home), clock) as alone:
        more = alone.audit.append_sync(said("more"))
        with pytest.raises(RequestError, match="legal hold"):  # found by the key of holds, which came back
            await erase(alone, carried.auditor, carried.privacy, key="key", user="kept")
        await backed_up(alone, home, clock)
    assert content_of(home, home.database, more.seq) == {"text": "more"}
    assert len(query.search(home.database, kind=Kind.BOX_RESTORED)) == 1
    assert_verified(home)


async def test_what_was_erased_stays_erased(home: Home, clock: ManualClock, tmp_path: Path) -> None:
    """A copy of the shares from before an erasure, kept longer than it may be: only the others return."""
    carried = await lost(home, clock, tmp_path / "shelf")
    older = carried.box.with_name("kept-too-long.backup")

    done = bring_back(home, clock, carried, replace(carried.wanted(), shares=older))

    assert done.num_erased == 1
    keep_auditor(home, carried)
    assert content_of(home, home.database, carried.kept_seq) == {"text": "canary-kept"}
    assert content_of(home, home.database, carried.erased_seq) is None


async def test_newer_checkpoint_keeps_the_log_closed(home: Home, clock: ManualClock, tmp_path: Path) -> None:
    """Somebody kept the lost machine's last head: a quorum agrees, and another log begins."""
    carried = await lost(home, clock, tmp_path / "shelf")

    done = bring_back(home, clock, carried, replace(carried.wanted(), heads=(carried.head,)))

    assert done.database is not None
    assert (done.database.closed, "begin-anew" in done.database.hint) == ("rolled_back", True)
    assert done.num_shares is None
    key = (home.keys / files.KEY).read_bytes()
    keep_auditor(home, carried)
    begun = begin(home, clock, signed(drafted(home), carried.auditor))
    renamed(home, config.load(home).audit.origin, begun.origin)
    assert (home.keys / files.KEY).read_bytes() != key
    taken, num_erased = restore.restore_shares(
        home, config.load(home), clock, carried.shares, carried.recovery
    )
    assert (taken > 0, num_erased) == (True, 0)
    assert content_of(home, begun.archive / "appliance.db", carried.kept_seq) == {"text": "canary-kept"}
    assert len(query.search(home.database, kind=Kind.BOX_RESTORED)) == 1
    assert_verified(home)


async def test_older_copy_keeps_the_log_closed(home: Home, clock: ManualClock, tmp_path: Path) -> None:
    """A copy from before the box's own is older than the head in the box."""
    with open_log_alone(home, config.load(home), clock) as alone:
        alone.audit.append_sync(said("first"))
    older = tmp_path / "older.db"
    db.copy(home.database, older)
    carried = await lost(home, clock, tmp_path / "shelf")

    done = bring_back(home, clock, carried, replace(carried.wanted(), database=older))

    assert done.database is not None
    assert (done.database.closed, "begin-anew" in done.database.hint) == ("rolled_back", True)
    with pytest.raises(SetupError) as refused, open_log_alone(home, config.load(home), clock):
        pass
    assert refused.value.code == "rolled_back"


async def test_witness_who_saw_more_refuses_the_other_history(
    home: Home, clock: ManualClock, tmp_path: Path
) -> None:
    """Nobody handed in what the witness cosigned: the log goes on, and the next visit finds it out."""
    carried = await lost(home, clock, tmp_path / "shelf")
    bring_back(home, clock, carried)
    log = files.read_verifier(home)
    seen = checkpoint.open_checkpoint(carried.head.read_text(), log)

    def visit() -> Status:
        with db.reading(home.database) as connection:
            size = proving.head_of(proving.newest(connection)).size
            request = proving.request_from(connection, min(seen.size, size))
        with pytest.raises(NotCosigned) as refused:
            witness.check(request, log, seen)
        return refused.value.status

    found = {visit()}
    with open_log_alone(home, config.load(home), clock) as alone:
        for _ in range(seen.size):
            alone.audit.append_sync(said("another history"))
    found.add(visit())
    assert Status.UNPROCESSABLE in found
    assert found <= {Status.CONFLICT, Status.UNPROCESSABLE}


async def test_without_shares_the_log_waits_for_them(home: Home, clock: ManualClock, tmp_path: Path) -> None:
    """Their days were over, or they lie elsewhere: told, closed, and the record says all of it afterwards."""
    carried = await lost(home, clock, tmp_path / "shelf")
    elsewhere = carried.shares.rename(tmp_path / "elsewhere.backup")

    done = bring_back(home, clock, carried)

    assert done.database is not None
    assert (done.database.closed, done.num_shares) == ("shares_missing", None)
    assert home.restored.exists()
    taken, _ = restore.restore_shares(home, config.load(home), clock, elsewhere, carried.recovery)
    assert taken > 0
    assert len(query.search(home.database, kind=Kind.BOX_RESTORED)) == 1
    assert not home.restored.exists()


async def test_what_is_refused_changes_nothing(home: Home, clock: ManualClock, tmp_path: Path) -> None:
    """Another identity, a bent file, a lost copy, another log's checkpoint: told, and nothing is laid."""
    carried = await lost(home, clock, tmp_path / "shelf")
    other = make_home(tmp_path / "other")

    def refused(wanted: Wanted, identity: Identity = carried.recovery) -> str:
        with pytest.raises(ApplianceError) as found:
            boxing.restore_box(home, clock, wanted, identity, verify=second_reading)
        assert not home.config.exists()
        return found.value.message

    def bent(path: Path) -> Path:
        folder = tmp_path / f"bent-{path.name}"
        shutil.copytree(carried.box.parent, folder)
        data = bytearray((folder / path.name).read_bytes())
        data[-20] ^= 1
        (folder / path.name).write_bytes(data)
        return folder / carried.box.name

    assert "not sealed to this identity" in refused(carried.wanted(), Identity.generate("mallory"))
    assert "not sealed to this identity" in refused(carried.wanted(), carried.auditor)
    assert "damaged" in refused(Wanted(bent(carried.box)))
    assert "damaged" in refused(Wanted(bent(carried.database)))
    assert "damaged" in refused(Wanted(bent(carried.shares)))
    assert "no box file" in refused(Wanted(carried.shares))
    assert "larger" in refused(replace(carried.wanted(), heads=(carried.database,)))
    assert "key" in refused(replace(carried.wanted(), heads=(other.head,)))
    lonely = Wanted(Path(shutil.copy(carried.box, tmp_path)))
    assert "does not lie beside" in refused(lonely)


def resealed(carried: Carried, **changed: bytes) -> Wanted:
    """A box that somebody else made, with other bytes in a file; anybody can seal to a public key."""
    box = boxes.open_box(carried.box.read_bytes(), carried.recovery)
    names = {"config": "appliance.toml", "key": "keys/log.ed25519", "vkey": "keys/log.vkey", "head": "head"}
    found = {**box.files, **{names[each]: data for each, data in changed.items()}}
    path = carried.box.with_name("forged.backup")
    path.write_bytes(boxes.seal(replace(box, files=found), [carried.recovery.recipient]))
    return Wanted(path)


async def test_a_box_whose_parts_are_not_of_one_log(home: Home, clock: ManualClock, tmp_path: Path) -> None:
    """Key, public key, head and settings belong together, or nothing is laid down."""
    carried = await lost(home, clock, tmp_path / "shelf")
    stranger = make_home(tmp_path / "stranger")
    for changed in (
        {"config": stranger.config.read_bytes()},
        {"config": b"\xff"},
        {"config": b"nonsense = 1"},
        {"key": (stranger.keys / files.KEY).read_bytes()},
        {"key": b"short"},
        {"vkey": (stranger.keys / files.VERIFIER).read_bytes()},
        {"head": stranger.head.read_bytes()},
        {"head": carried.head.read_bytes()},  # whole, and not the one that the first line tells of
        {"head": b"\xff"},
    ):
        with pytest.raises(ApplianceError):
            bring_back(home, clock, carried, resealed(carried, **changed))
        assert not home.config.exists()


async def test_only_an_empty_folder_becomes_a_home(home: Home, clock: ManualClock, tmp_path: Path) -> None:
    """A home that stands is left alone; models and old logs of before are welcome."""
    carried = await lost(home, clock, tmp_path / "shelf")
    standing = make_home(tmp_path / "standing")
    before = {path: path.read_bytes() for path in standing.root.rglob("*") if path.is_file()}
    with pytest.raises(SetupError, match="is not empty"):
        bring_back(standing, clock, carried)
    assert {path: path.read_bytes() for path in standing.root.rglob("*") if path.is_file()} == before

    for folder in (home.models, home.archive):
        folder.mkdir(parents=True)
        (folder / "some.file").write_text("x")
    assert bring_back(home, clock, carried).num_shares is not None
    with pytest.raises(SetupError, match="is not empty"):
        bring_back(home, clock, carried)


@pytest.mark.parametrize("at", range(9))
async def test_the_same_command_ends_what_a_crash_began(
    home: Home, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Before each of the files is laid: nothing serves in between, and the second run makes the home."""
    carried = await lost(home, clock, tmp_path / "shelf")
    real = durable.write_file
    laid: list[str] = []

    def crash(path: Path, data: bytes, *, mode: int = durable.PRIVATE_FILE) -> None:
        if len(laid) == at:
            raise KeyboardInterrupt
        laid.append(path.name)
        real(path, data, mode=mode)

    with monkeypatch.context() as patched:
        patched.setattr(durable, "write_file", crash)
        with pytest.raises(KeyboardInterrupt):
            bring_back(home, clock, carried)
    if "appliance.toml" not in laid:
        with pytest.raises(SetupError) as refused:
            config.load(home)
        assert refused.value.code == "not_initialised"
        bring_back(home, clock, carried)
    else:  # all was laid, and the copies' turn has come
        restore.restore_database(home, config.load(home), clock, carried.database, verify=second_reading)
        restore.restore_shares(home, config.load(home), clock, carried.shares, carried.recovery)
    (entry,) = query.search(home.database, kind=Kind.BOX_RESTORED)
    assert entry.public["backup_sha256"] == db.digest_of(carried.box)


async def test_newest_box_only(home: Home, clock: ManualClock) -> None:
    """A fresh box takes the place of older ones, which the record counts; carried media are their owner's."""
    with open_log_alone(home, config.load(home), clock) as alone:
        first = (await backed_up(alone, home, clock)).box
        clock.advance(1)
        second = (await backed_up(alone, home, clock)).box
    assert (first.exists(), boxes.every(home)) == (False, [second])
    assert second.stat().st_mode & 0o077 == 0
    told = query.search(home.database, kind=Kind.BOX_BACKED_UP)
    assert [each.public["num_removed"] for each in told] == [1, 0]
    assert told[0].public["backup_sha256"] == db.digest_of(second)


async def test_what_is_in_a_box(home: Home, clock: ManualClock) -> None:
    """No key of the shares, of a month or of an act, and no identity: what is erased opens by no box."""
    with open_log_alone(home, config.load(home), clock) as alone:
        alone.audit.append_sync(said("canary"))
        await alone.custody.hold(api_key="key", user="", since_us=0, until_us=None, reason="r")
        codes.seals_of(home, make=True)
        path = (await backed_up(alone, home, clock)).box
    box = boxes.open_box(path.read_bytes(), recovery_of(home))
    assert set(box.files) == {
        "appliance.toml", "head", "keys/log.ed25519", "keys/log.vkey", "keys/holds.key",
        "keys/people.key",
    }  # fmt: skip
    left_out = [each for each in home.keys.iterdir() if f"keys/{each.name}" not in box.files]
    assert {each.name.partition("-")[0] for each in left_out} == {
        "shares", "index", "dev", "recovery.identity",
    }  # fmt: skip
