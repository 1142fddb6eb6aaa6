"""What each profile uses, promised and found; and what is never claimed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from appliance import config, db
from appliance.alone import open_log_alone
from appliance.audit import checkpoint, files, profiles, query, store
from appliance.audit.checkpoint import Algorithm
from appliance.audit.kinds import Kind
from appliance.audit.policy import first_policy
from appliance.audit.recipients import SUITE_NAMES, Algorithms, Identity
from appliance.cli.doctor import examine
from appliance.cli.init import Members, initialise
from appliance.cli.verifying import second_reading
from appliance.config import CryptoProfile, Home
from appliance.errors import SetupError, VerificationError
from tests.acts import dev_auditor, signed, with_member
from tests.clocks import ManualClock
from tests.records import assert_verified
from tests.restored import agreed, begin, renamed, said, set_back, with_past

ROOT = Path(__file__).resolve().parent.parent.parent.parent
GOLDEN = {
    "standard": [
        "content: AES-256-GCM (SP 800-38D)",
        "digests: SHA-256 (FIPS 180-4)",
        "key derivation: HKDF with HMAC-SHA-256 (SP 800-56C)",
        "blind indexes: HMAC-SHA-256 (FIPS 198-1)",
        "wraps: HPKE with X-Wing (ML-KEM-768 and X25519) or with ECDH P-256; HKDF-SHA-256, AES-256-GCM",
        "checkpoints: Ed25519",
        "acts: Ed25519 or ECDSA P-256 with SHA-256",
    ],
    "fips": [
        "content: AES-256-GCM (SP 800-38D)",
        "digests: SHA-256 (FIPS 180-4)",
        "key derivation: HKDF with HMAC-SHA-256 (SP 800-56C)",
        "blind indexes: HMAC-SHA-256 (FIPS 198-1)",
        "wraps: HPKE with ECDH P-256 (SP 800-56A); HKDF-SHA-256, AES-256-GCM",
        "checkpoints: ECDSA P-256 with SHA-256 (FIPS 186-5), and Ed25519 beside it",
        "acts: ECDSA P-256 with SHA-256 (FIPS 186-5)",
    ],
}


def home_of(folder: Path, profile: CryptoProfile, clock: ManualClock) -> Home:
    """An initialised home with one sealed entry."""
    home = Home(root=folder / profile)
    initialise(home, profile="dev", crypto=profile)
    with open_log_alone(home, config.load(home), clock) as alone:
        alone.audit.append_sync(said("canary"))
    return home


@pytest.mark.parametrize("profile", ["standard", "fips"])
def test_inventory_is_what_is_found(profile: CryptoProfile, tmp_path: Path, clock: ManualClock) -> None:
    """The promised list, and the traces that each algorithm leaves in a real home."""
    assert profiles.lines_of(profile) == GOLDEN[profile]
    home = home_of(tmp_path, profile, clock)
    kinds = {Algorithm.ED25519} | ({Algorithm.ECDSA_P256} if profile == "fips" else set())
    with db.reading(home.database) as connection:
        suites = set(connection.exec_driver_sql("SELECT suite FROM epoch_wrap").scalars())
        notes = [*connection.exec_driver_sql("SELECT note FROM checkpoint").scalars(), files.read_head(home)]
        members = store.policies(connection)[-1].members
        algorithms = set(connection.exec_driver_sql("SELECT hdr FROM log_entry").scalars())
    chosen = profiles.algorithms_of(profile)
    assert suites == {SUITE_NAMES[chosen]}
    assert {each.recipient.algorithms for each in members} == {chosen}
    verifiers = files.read_verifiers(home.keys)
    assert {each.algorithm for each in verifiers} == kinds
    assert all(len(checkpoint.read_note(each).signatures) == len(kinds) for each in notes)
    assert all(checkpoint.open_checkpoint(each, *verifiers) for each in notes)
    assert {alg for each in algorithms for alg in re.findall(rb'"alg":"([^"]+)"', each)} == {b"A256GCM"}
    assert_verified(home)


def test_module_is_told(tmp_path: Path, clock: ManualClock) -> None:
    """Profile, OpenSSL's name and version, and that nothing is claimed of its validation."""
    home = home_of(tmp_path, "fips", clock)
    (started,) = query.search(home.database, kind=Kind.LOG_STARTED)
    assert started.public["crypto"] == "fips; not a validated module"
    assert re.match(r"OpenSSL [0-9.]+", str(started.public["openssl"]))
    (check,) = [each for each in examine(home) if each.name == "algorithms"]
    assert check.is_green
    assert all(line in check.says for line in (*GOLDEN["fips"], profiles.module()))


def test_second_signature_is_needed(tmp_path: Path, clock: ManualClock) -> None:
    """A checkpoint without the ECDSA signature, or with a bent one, turns verify red."""
    home = home_of(tmp_path, "fips", clock)
    lines = home.head.read_text().splitlines(keepends=True)
    home.head.write_text("".join(lines[:-1]))
    with (
        pytest.raises(VerificationError, match="not signed by the expected key"),
        open_log_alone(home, config.load(home), clock),
    ):
        pass
    home.head.write_text("".join(lines))
    copy = tmp_path / "copy.db"
    db.copy(home.database, copy)
    verifiers = files.read_verifiers(home.keys)
    assert second_reading(copy, verifiers).is_green
    other = home_of(tmp_path / "other", "fips", clock)
    stranger = files.read_verifiers(other.keys)[1]
    assert not second_reading(copy, (verifiers[0], stranger)).is_green


async def test_readers_follow_the_profile(tmp_path: Path, clock: ManualClock) -> None:
    """Under fips nobody with another kind of key is taken in: not at the beginning, not by an act."""
    xwing = Identity.generate("bob", Algorithms.XWING)
    with pytest.raises(VerificationError) as refused:
        initialise(
            Home(root=tmp_path / "refused"),
            profile="dev",
            members=Members(auditors=[xwing.recipient]),
            crypto="fips",
        )
    assert (refused.value.code, (tmp_path / "refused").exists()) == ("crypto_profile", False)
    home = home_of(tmp_path, "fips", clock)
    with open_log_alone(home, config.load(home), clock) as alone:
        policy, origin = alone.audit.policy, alone.audit.origin
        with pytest.raises(VerificationError, match="not of P-256: bob"):
            await alone.custody.change_policy(signed(with_member(policy, origin, xwing), dev_auditor(home)))
        p256 = Identity.generate("carol", Algorithms.P256)
        await alone.custody.change_policy(signed(with_member(policy, origin, p256), dev_auditor(home)))
    assert_verified(home)


@pytest.mark.parametrize(("begun", "configured"), [("standard", "fips"), ("fips", "standard")])
def test_profile_is_for_life(
    begun: CryptoProfile, configured: CryptoProfile, tmp_path: Path, clock: ManualClock
) -> None:
    """A log that was begun under one profile does not open under the other."""
    home = home_of(tmp_path, begun, clock)
    text = home.config.read_text().replace('[crypto]\nprofile = "fips"\n', "")
    home.config.write_text(text + f'\n[crypto]\nprofile = "{configured}"\n')
    with pytest.raises(SetupError) as refused, open_log_alone(home, config.load(home), clock):
        pass
    assert refused.value.code == "crypto_profile"


async def test_new_beginning_keeps_the_profile(tmp_path: Path, clock: ManualClock) -> None:
    """A restored log of profile fips begins anew with two fresh keys; the old one verifies with its own."""
    home = home_of(tmp_path, "fips", clock)
    past = await with_past(home, clock, tmp_path)
    before = files.read_verifiers(home.keys)
    set_back(home, past)
    begun = begin(home, clock, agreed(home))
    renamed(home, past.origin, begun.origin)
    after = files.read_verifiers(home.keys)
    assert len(after) == 2
    assert not {each.public for each in before} & {each.public for each in after}
    assert files.read_verifiers(begun.archive) == before
    assert second_reading(begun.archive / "appliance.db", before).is_green
    assert_verified(home)


def test_nothing_is_called_validated() -> None:
    """Approved algorithms are not a validated module: the words that would say so stand nowhere."""
    claim = re.compile(r"FIPS[- ](140[-\d ]*)?(validated|certified|compliant)", re.IGNORECASE)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    texts = {
        name: (ROOT / name).read_text(encoding="utf-8", errors="replace")
        for name in listed.stdout.split("\0")
        if name.endswith((".py", ".md", ".toml", ".html")) and Path(name).name != Path(__file__).name
    }
    assert len(texts) > 100
    assert [name for name, text in texts.items() if claim.search(text)] == []
    assert claim.search("a FIPS 140-3 validated module")


def test_policy_and_profile_disagree() -> None:
    """A log whose readers have another kind of key is not opened under fips, whatever keys it has."""
    policy = first_policy([Identity.generate("bob", Algorithms.XWING).recipient])
    with pytest.raises(SetupError, match="not of P-256: bob"):
        profiles.check_home("fips", policy, has_second_key=True)
    profiles.check_home("standard", policy, has_second_key=False)
