"""When a witness cosigns, what it keeps, and how the log hears of it."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given

from appliance import config
from appliance.alone import open_log_alone
from appliance.audit import checkpoint, merkle, witness, witness_keys
from appliance.audit.checkpoint import Checkpoint
from appliance.audit.merkle import EMPTY_ROOT
from appliance.audit.witness import NotCosigned, Request, Status
from appliance.audit.witness_keys import WitnessKeys
from appliance.audit.witness_store import WitnessStore
from appliance.config import Home
from appliance.errors import ApplianceError, RequestError, SetupError, VerificationError
from tests.clocks import ManualClock
from tests.property.test_formats import LOG, ORIGIN, mutations
from tests.property.test_merkle import Tree

KEYS = WitnessKeys.generate("court.example/w1")
TREE = Tree(131)


def request(old: int, new: int, *, tree: Tree = TREE, proof_from: int | None = None) -> Request:
    hashes = merkle.consistency_proof(old if proof_from is None else proof_from, new, tree.read)
    return Request(old, tuple(hashes), LOG.sign(Checkpoint(ORIGIN, new, tree.roots[new]).text()))


class Forked(Tree):
    """The same first leaves, then others."""

    def __init__(self, size: int, same: int) -> None:
        super().__init__(size)
        self.leaves = self.leaves[:same] + [merkle.leaf_hash(b"%d forged" % n) for n in range(size - same)]
        self.nodes, self.roots, frontier = {}, [EMPTY_ROOT], merkle.Frontier()
        for leaf in self.leaves:
            self.nodes |= {(node.level, node.index): node.hash for node in frontier.append(leaf)}
            self.roots.append(frontier.root())


@pytest.fixture
def store(tmp_path: Path) -> WitnessStore:
    made = WitnessStore(tmp_path / "court.state")
    made.follow(LOG.verifier)
    return made


def cosign(store: WitnessStore, asked: Request) -> int:
    head, lines = store.cosign(asked, KEYS.cosigners, time_s=1_700_000_000)
    assert len(lines.splitlines()) == 2
    return head.size


def refusal(store: WitnessStore, asked: Request) -> tuple[Status, int]:
    with pytest.raises(NotCosigned) as caught:
        cosign(store, asked)
    return caught.value.status, caught.value.size


def test_a_log_that_grows_is_cosigned(store: WitnessStore) -> None:
    """From nothing, onwards, and the same size again; the newest whole note is what is remembered."""
    assert [cosign(store, request(old, new)) for old, new in ((0, 7), (7, 8), (8, 8), (8, 131))] == [
        7, 8, 8, 131,
    ]  # fmt: skip
    (log,) = store.logs()
    assert (log.origin, log.size, log.num_refused) == (ORIGIN, 131, 0)


def test_refusals_have_the_status_of_the_protocol(store: WitnessStore, tmp_path: Path) -> None:
    """C2SP tlog-witness, add-checkpoint: 404, 403, 400, 409 with the size, 422; nothing is remembered."""
    cosign(store, request(0, 20))
    stranger = WitnessStore(tmp_path / "other.state")
    assert refusal(stranger, request(0, 20)) == (Status.NOT_FOUND, 0)
    unsigned = request(20, 30)
    broken = Request(20, unsigned.hashes, unsigned.note.replace("\n30\n", "\n31\n"))
    assert refusal(store, broken)[0] == Status.FORBIDDEN
    assert refusal(store, Request(21, (), request(20, 20).note)) == (Status.BAD_REQUEST, 20)
    assert refusal(store, request(0, 30)) == (Status.CONFLICT, 20)
    assert refusal(store, request(19, 30)) == (Status.CONFLICT, 20)
    assert refusal(store, request(20, 30, proof_from=19)) == (Status.UNPROCESSABLE, 20)
    assert refusal(store, Request(20, (EMPTY_ROOT,), request(20, 20).note)) == (Status.UNPROCESSABLE, 20)
    empty = LOG.sign(Checkpoint(ORIGIN, 0, merkle.leaf_hash(b"")).text())
    fresh = WitnessStore(tmp_path / "fresh.state")
    fresh.follow(LOG.verifier)
    assert refusal(fresh, Request(0, (), empty)) == (Status.UNPROCESSABLE, 0)
    assert cosign(store, request(20, 30)) == 30


@pytest.mark.parametrize("old", [40, 33])
def test_a_fork_is_refused_and_both_notes_are_kept(store: WitnessStore, old: int) -> None:
    """The copy of a log that went another way gets 422, or 409; equal sizes with two roots are a proof."""
    forked = Forked(60, 33)
    cosign(store, request(0, 40))
    status, size = refusal(store, request(old, 40, tree=forked))
    assert (status, size) == ((Status.UNPROCESSABLE if old == 40 else Status.CONFLICT), 40)
    (fork,) = store.forks(ORIGIN)
    known, refused = (checkpoint.open_checkpoint(each, LOG.verifier) for each in (fork.known, fork.refused))
    assert (known.size, refused.size, fork.is_proof) == (40, 40, True)
    assert known.root != refused.root
    assert refusal(store, request(40, 60, tree=forked)) == (Status.UNPROCESSABLE, 40)
    assert [each.is_proof for each in store.forks(ORIGIN)] == [True, False]


def test_two_programs_at_once_can_not_cosign_two_futures(store: WitnessStore, tmp_path: Path) -> None:
    """Comparing and storing are one transaction: the second of two that read the same size is refused."""
    other = WitnessStore(tmp_path / "court.state")
    cosign(store, request(0, 10))
    cosign(other, request(10, 20))
    assert refusal(store, request(10, 30, tree=Forked(60, 15))) == (Status.CONFLICT, 20)


def test_a_log_keeps_its_key_with_a_witness(store: WitnessStore) -> None:
    """Another key under the same origin is refused."""
    other = checkpoint.Signer(ORIGIN, Ed25519PrivateKey.generate())
    with pytest.raises(RequestError, match="another key"):
        store.follow(other.verifier)


@given(mutations(request(3, 20).encode().encode()))
def test_requests_have_one_form(data: bytes) -> None:
    """What is read as a request is written as the same bytes; everything else is a VerificationError."""
    with contextlib.suppress(VerificationError):
        assert witness.parse(data).encode().encode() == data


@given(mutations(KEYS.text().encode()))
def test_key_files(data: bytes) -> None:
    """A witness's files open to what they were made of, or are refused."""
    assert witness_keys.parse(KEYS.text()) == KEYS
    assert [each.name for each in witness_keys.parse_public(KEYS.public())] == [KEYS.name] * 2
    text = data.decode(errors="replace")
    with contextlib.suppress(VerificationError):
        assert witness_keys.parse(text).name
    with contextlib.suppress(VerificationError):
        witness_keys.parse_public(text)


def cosigned(note: str, time_s: int) -> str:
    text = checkpoint.read_note(note).text
    return note + "".join(each.cosign(text, time_s) for each in KEYS.cosigners)


async def test_the_log_takes_what_its_witnesses_said(home: Home, clock: ManualClock) -> None:
    """Pinned once, stored once; strangers, other logs, longer logs and broken lines are refused."""
    with open_log_alone(home, config.load(home), clock) as alone:
        taken = alone.witnessing
        now_s = clock.now_us() // 1_000_000
        note = alone.audit._sequencer.note  # type: ignore[union-attr]
        with pytest.raises(VerificationError, match="no pinned witness"):
            await taken.take(cosigned(note, now_s))
        assert taken.visits().is_stale is False
        await taken.add(witness_keys.parse_public(KEYS.public()))
        with pytest.raises(RequestError, match="already"):
            await taken.add(witness_keys.parse_public(KEYS.public()))
        said, _ = await taken.take(cosigned(note, now_s))
        assert [each.time for each in said] == [now_s, now_s]
        for bad in (
            cosigned(note, now_s),
            cosigned(note, now_s)[:-6] + "AAAA=\n",
            cosigned(LOG.sign(Checkpoint(ORIGIN, 1, bytes(32)).text()), now_s),
            "no note",
        ):
            with pytest.raises(ApplianceError):
                await taken.take(bad)
        assert (taken.visits().num_witnesses, taken.visits().time_s) == (1, now_s)


async def test_an_old_visit_is_an_alarm(home: Home, clock: ManualClock) -> None:
    """A pinned witness has `audit.witness_max_age_days` to come, and to come again; none is no alarm."""
    with open_log_alone(home, config.load(home), clock) as alone:
        clock.advance(30 * 86_400)
        assert alone.witnessing.visits().is_stale is False
        await alone.witnessing.add(witness_keys.parse_public(KEYS.public()))
        clock.advance(6 * 86_400)
        assert alone.witnessing.visits().is_stale is False
        clock.advance(2 * 86_400)
        assert alone.witnessing.visits().is_stale is True
        note = alone.audit._sequencer.note  # type: ignore[union-attr]
        await alone.witnessing.take(cosigned(note, clock.now_us() // 1_000_000))
        assert alone.witnessing.visits().is_stale is False
        clock.advance(8 * 86_400)
        assert alone.witnessing.visits().is_stale is True


def test_the_state_is_one_file_with_whole_notes(store: WitnessStore, tmp_path: Path) -> None:
    """What a witness kept can be read without this program, and the log's own signature is in it."""
    cosign(store, request(0, 9))
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "court.state")) as sql:
        (note,) = sql.execute("SELECT note FROM cosigned").fetchone()
    assert checkpoint.open_checkpoint(note, LOG.verifier).size == 9


def test_a_broken_state_is_said_and_nothing_is_cosigned(tmp_path: Path) -> None:
    """No database, a later release's, one that somebody else holds: SetupError, exit code 3."""
    (tmp_path / "text.state").write_text("this is no database, and long enough to be seen as such" * 40)
    with pytest.raises(SetupError, match="state"):
        WitnessStore(tmp_path / "text.state")
    with contextlib.closing(sqlite3.connect(tmp_path / "later.state")) as sql:
        sql.execute("PRAGMA user_version = 9")
    with pytest.raises(SetupError, match="another release"):
        WitnessStore(tmp_path / "later.state")
    made = WitnessStore(tmp_path / "held.state")
    made.follow(LOG.verifier)
    made._sql.execute("PRAGMA busy_timeout = 10")
    with contextlib.closing(sqlite3.connect(tmp_path / "held.state", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SetupError, match="state"):
            cosign(made, request(0, 5))
    assert cosign(made, request(0, 5)) == 5
