"""The appliance's half of the keys, over crashes, months and latches; blind indexes of a month."""

from __future__ import annotations

import sqlite3

import pytest

from appliance import config, db
from appliance.alone import Alone, open_log_alone
from appliance.audit import blind, query, shares, store
from appliance.audit.blind import IndexKey
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.query import Record
from appliance.audit.recipients import Identity
from appliance.audit.shares import ShareStore
from appliance.config import Home
from appliance.errors import ApplianceError, AuditUnavailable, SetupError
from tests.acts import dev_auditor, erase, signed, with_member
from tests.clocks import ManualClock

MONTH_SECONDS = 31 * 86_400


def said(text: str, *, user: str | None = None, actor: str = "key") -> Entry:
    return Entry(
        kind=Kind.REQUEST_REFUSED,
        public={"code": "test", "status": 400, "count": 1, "route": "/"},
        content={"text": text},
        actor=actor,
        user=user,
        subject=f"user:key:{user}" if user else f"key:{actor}",
    )


def record_of(home: Home, seq: int) -> Record:
    return next(each for each in query.search(home.database, limit=1000) if each.seq == seq)


def opened(home: Home, seq: int, held: dict[str, bytes]) -> query.Opened:
    (found,) = query.open_records(home.database, [record_of(home, seq)], [dev_auditor(home)], held)
    return found


def released(home: Home, seq: int) -> dict[str, bytes]:
    ids = [bytes.fromhex(each) for each in query.shares_of([record_of(home, seq)])]
    return {each.hex(): secret for each, secret in shares.release(home, ids).items()}


async def with_privacy(alone: Alone, home: Home) -> tuple[Identity, Identity]:
    """The dev auditor, and a privacy member that joins the key policy."""
    auditor, privacy = dev_auditor(home), Identity.generate("privacy")
    draft = with_member(alone.audit.policy, alone.audit.origin, privacy)
    await alone.custody.change_policy(signed(draft, auditor))
    return auditor, privacy


def test_months_have_their_own_shares_and_index_keys(home: Home, clock: ManualClock) -> None:
    """One subject in two months: two shares, two blind indexes, and the old index key only with auditors."""
    settings = config.load(home)
    with open_log_alone(home, settings, clock) as alone:
        first = alone.audit.append_sync(said("one", user="citizen"))
        same = alone.audit.append_sync(said("two", user="citizen"))
        clock.advance(MONTH_SECONDS)
        later = alone.audit.append_sync(said("three", user="citizen"))
    one, two, three = (record_of(home, each.seq).header for each in (first, same, later))
    assert (one.subj, one.bi) == (two.subj, two.bi)
    assert one.subj != three.subj
    assert one.bi is not None
    assert three.bi is not None
    assert not set(one.bi.values()) & set(three.bi.values())

    assert [path.name for path in home.keys.glob("index*")] == [f"index-{blind.month_of(clock.now_us())}.key"]
    handed = query.search(home.database, kind=Kind.INDEX_OPENED)[::-1]
    contents = [opened(home, each.seq, released(home, each.seq)).content for each in handed]
    keys = [
        IndexKey(str(each.public["month"]), bytes.fromhex(str((content or {})["key"])))
        for each, content in zip(handed, contents, strict=True)
    ]
    assert [each.sha256 for each in keys] == [each.public["key_sha256"] for each in handed]
    assert keys[0].blind("user", "citizen").hex() == one.bi["user"]
    assert keys[1].blind("key", "key").hex() == three.bi["key"]


async def test_erasure_that_crashed_is_finished_at_the_next_start(
    home: Home, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the commit nothing goes back: the entry stands, so the shares go."""
    settings = config.load(home)

    def crash(*_: object) -> int:
        raise sqlite3.OperationalError("disk I/O error")

    with open_log_alone(home, settings, clock) as alone:
        members = await with_privacy(alone, home)
        receipt = alone.audit.append_sync(said("doomed", user="citizen"))
        held = released(home, receipt.seq)
        assert opened(home, receipt.seq, held).content == {"text": "doomed"}
        with monkeypatch.context() as patched:
            patched.setattr(ShareStore, "erase", crash)
            with pytest.raises(AuditUnavailable):
                await erase(alone, *members, key="key", user="citizen")
        assert released(home, receipt.seq) == held
        await alone.administration.recover()
        assert released(home, receipt.seq) == {}
    (entry,) = query.search(home.database, kind=Kind.CONTENT_ERASED)
    assert opened(home, receipt.seq, {}).erased_by == entry.seq


def test_share_of_an_entry_that_never_came_is_dropped(
    home: Home, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share is durable before its entry; where the entry's commit fails, the next start drops it."""
    settings = config.load(home)

    def crash(*_: object) -> None:
        raise OSError("no space left on device")

    with open_log_alone(home, settings, clock) as alone:
        alone.audit.append_sync(said("kept", user="one"))
        with monkeypatch.context() as patched:
            patched.setattr(store, "add_entries", crash)
            with pytest.raises(AuditUnavailable):
                alone.audit.append_sync(said("lost", user="two"))
        assert len(shares.find(home, "user:key:two")) == 1
        alone.audit.recover()
        assert shares.find(home, "user:key:two") == []
        assert len(shares.find(home, "user:key:one")) == 1


async def test_no_share_without_a_record(home: Home, clock: ManualClock) -> None:
    """While the log is latched nothing is released: law 4 holds for reading too."""
    settings = config.load(home)
    with open_log_alone(home, settings, clock) as alone:
        receipt = alone.audit.append_sync(said("secret"))
        ids = query.shares_of([record_of(home, receipt.seq)])
        reading = Entry(kind=Kind.AUDIT_READ, public={"target": receipt.seq})
        _, given = await alone.custody.release(reading, ids)
        assert set(given) == set(ids)
        home.latch.with_name("aside").write_bytes(home.database.read_bytes())
        home.database.unlink()
        with pytest.raises(AuditUnavailable):
            await alone.custody.release(reading, ids)


def test_lost_shares_keep_the_log_closed(home: Home, clock: ManualClock) -> None:
    """Without its half of the keys the appliance does not write what nobody could read."""
    settings = config.load(home)
    aside = home.root / "aside"
    home.shares.rename(aside)
    with pytest.raises(SetupError) as refused, open_log_alone(home, settings, clock):
        pass
    assert refused.value.code == "shares_missing"
    aside.rename(home.shares)
    with open_log_alone(home, settings, clock) as alone:
        home.shares.unlink()
        with pytest.raises(AuditUnavailable):
            alone.audit.append_sync(said("into the void"))


async def test_policies_stand_in_the_database_with_their_acts(home: Home, clock: ManualClock) -> None:
    """A policy that is applied twice, or behind another one, is refused; the chain can be read."""
    settings = config.load(home)
    with open_log_alone(home, settings, clock) as alone:
        auditor = dev_auditor(home)
        first = alone.audit.policy
        note = signed(with_member(first, alone.audit.origin, Identity.generate("one")), auditor)
        other = signed(with_member(first, alone.audit.origin, Identity.generate("two")), auditor)
        await alone.custody.change_policy(note)
        for late in (note, other):
            with pytest.raises(ApplianceError, match="another key policy"):
                await alone.custody.change_policy(late)
        assert alone.audit.is_ready
    with db.reading(home.database) as connection:
        policies = store.policies(connection)
    assert [each.number for each in policies] == [1, 2]
    assert policies[1].previous == first.sha256
