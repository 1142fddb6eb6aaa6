"""What metadata is for: older, mixed, expired, rotated, stolen, taken back; and what is remembered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tuf.api.metadata import Delegations, Metadata, Targets

from appliance.bundle import layout, metadata, signing, trusted, verifying
from appliance.bundle.keys import Kind
from appliance.bundle.layout import Site
from appliance.bundle.refusals import BundleRefused, Exit
from tests import signed
from tests.clocks import ManualClock
from tests.signed import Office, install, refusal

DAY = 86_400


def test_bare_host_needs_fingerprints(office: Office, site: Site, clock: ManualClock, tmp_path: Path) -> None:
    """Nobody is believed because a bundle says so; and one fingerprint, or two of one person, are too few."""
    bundle = signed.bundle(tmp_path / "b", office)
    tara = office.targets_keys["tara"].public
    both_of_one = [each.fingerprint for each in tara.keys]
    one_twice = [office.prints()[0], office.prints()[0].upper()]

    assert refusal(bundle, site, clock) is Exit.BAD_SIGNATURE
    assert refusal(bundle, site, clock, fingerprints=one_twice) is Exit.BAD_SIGNATURE
    assert refusal(bundle, site, clock, fingerprints=both_of_one) is Exit.BAD_SIGNATURE
    found = verifying.verify(bundle, site, clock, fingerprints=office.prints(Kind.P384))
    assert found == verifying.verify(bundle, site, clock, fingerprints=office.prints())
    assert trusted.load(site) is None


def test_older_bundle_is_refused_and_only_let_in_on_purpose(
    office: Office, site: Site, clock: ManualClock, tmp_path: Path
) -> None:
    """Back is 102; with allow_downgrade it is verified, and the highest serial stays what it was."""
    older, newer = (signed.bundle(tmp_path / str(n), office, n) for n in (7, 8))
    install(older, site, clock, office)
    install(newer, site, clock)

    assert refusal(older, site, clock) is Exit.DOWNGRADE
    before = trusted.load(site)
    found = install(older, site, clock, allow_downgrade=True)
    after = trusted.load(site)
    assert found.manifest.serial == 7
    assert before is not None
    assert after is not None
    assert after.remembered == before.remembered
    assert refusal(older, site, clock) is Exit.DOWNGRADE
    assert install(newer, site, clock).manifest.serial == 8


MIXED = [
    ({"timestamp.json": "timestamp.json"}, Exit.MISSING),  # it asks for a snapshot that is not there
    ({"8000.snapshot.json": "7000.snapshot.json"}, Exit.BAD_METADATA),
    ({"8000.targets.json": "7000.targets.json"}, Exit.BAD_METADATA),
    (
        {name: name for name in ("timestamp.json", "7000.snapshot.json", "7000.targets.json")},
        Exit.BAD_METADATA,  # whole, and of another bundle
    ),
]


@pytest.mark.parametrize(("documents", "code"), MIXED, ids=["timestamp", "snapshot", "targets", "all"])
def test_mixed_metadata_is_refused(
    documents: dict[str, str], code: Exit, office: Office, site: Site, clock: ManualClock, tmp_path: Path
) -> None:
    """An older bundle's documents, signed by the right people, in a newer one's folder."""
    older, newer = (signed.bundle(tmp_path / str(n), office, n) for n in (7, 8))
    mixed = signed.copy(newer, tmp_path / "mixed")
    for ours, theirs in documents.items():
        (mixed / "metadata" / ours).write_bytes((older / "metadata" / theirs).read_bytes())

    assert refusal(mixed, site, clock, fingerprints=office.prints()) is code
    assert install(newer, site, clock, office).manifest.serial == 8


def test_metadata_of_other_signers_is_refused(
    office: Office, site: Site, clock: ManualClock, tmp_path: Path
) -> None:
    """One signer's metadata signatures are too few, whoever signed the list."""
    bundle = signed.bundle(tmp_path / "b", office)
    path = bundle / "metadata/1000.targets.json"
    document = json.loads(path.read_bytes())
    document["signatures"] = document["signatures"][:1]
    path.write_bytes(json.dumps(document).encode())

    assert refusal(bundle, site, clock, fingerprints=office.prints()) is Exit.BAD_SIGNATURE


def test_clock_before_the_bundle_was_built_is_refused(
    office: Office, site: Site, clock: ManualClock, tmp_path: Path
) -> None:
    """13, and not "expired" or "good": first by the manifest, later by what was accepted before."""
    bundle = signed.bundle(tmp_path / "b", office)
    before = ManualClock(clock.now_us() - 2 * DAY * 1_000_000)

    assert refusal(bundle, site, before, fingerprints=office.prints()) is Exit.CLOCK_WRONG
    install(bundle, site, clock, office)
    assert refusal(bundle, site, before) is Exit.CLOCK_WRONG
    with pytest.raises(BundleRefused) as refused:
        verifying.take_refresh(bundle, site, before)
    assert refused.value.exit is Exit.CLOCK_WRONG
    state = trusted.load(site)
    assert state is not None
    assert state.time_floor == signed.BUILT  # not this host's clock: that one may run ahead


def test_wrong_platform_is_refused(office: Office, site: Site, clock: ManualClock, tmp_path: Path) -> None:
    """21: a bundle for another machine, and this machine with another's bundle."""
    bundle = signed.bundle(tmp_path / "b", office, arch="aarch64")
    paper = office.prints()

    assert refusal(bundle, site, clock, fingerprints=paper, machine="x86_64") is Exit.WRONG_PLATFORM
    assert install(bundle, site, clock, office, machine="aarch64").manifest.platform.arch == "aarch64"


def test_three_root_rotations_in_one_hop(
    office: Office, site: Site, clock: ManualClock, tmp_path: Path
) -> None:
    """A host that was away while every signer was replaced walks the chain; old signers are refused."""
    install(signed.bundle(tmp_path / "1", office, 1), site, clock, office)
    old_signers = Office(office.folder, dict(office.root_keys), dict(office.targets_keys))
    left_over = signed.bundle(tmp_path / "left", old_signers, 9)
    for number, (root_name, name) in enumerate((("rita", "tess"), ("ralf", "tim"), ("rudi", "toni"))):
        gone_root, gone = next(iter(office.root_keys)), next(iter(office.targets_keys))
        del office.root_keys[gone_root], office.targets_keys[gone]
        office.root_keys |= signed.people(root_name)
        office.targets_keys |= signed.people(name)
        office.publish()
        assert len(office.chain) == number + 2

    found = install(signed.bundle(tmp_path / "4", office, 2), site, clock)

    assert len(found.chain) == 4
    assert found.signers == ("tess", "tim")
    assert refusal(left_over, site, clock) is Exit.BAD_SIGNATURE
    bare = Site(tmp_path / "bare")
    assert install(tmp_path / "4", bare, clock, office).key_ids == found.key_ids


def test_root_that_too_few_of_the_old_signers_signed_is_refused(
    office: Office, site: Site, clock: ManualClock, tmp_path: Path
) -> None:
    """A usurper's second root, signed by all of its own signers."""
    install(signed.bundle(tmp_path / "1", office, 1), site, clock, office)
    usurper = signed.office(tmp_path / "usurper").publish()
    bundle = signed.bundle(tmp_path / "2", usurper, 2)

    assert refusal(bundle, site, clock) is Exit.BAD_SIGNATURE


def test_stolen_keys_do_not_lock_the_host_out(
    office: Office, site: Site, clock: ManualClock, tmp_path: Path
) -> None:
    """Fast-forward: two stolen keys sign serial 99999; the root that removes one removes the serial."""
    install(signed.bundle(tmp_path / "1", office, 3), site, clock, office)
    install(signed.bundle(tmp_path / "evil", office, 99_999, revoked=[4]), site, clock)
    honest = signed.bundle(tmp_path / "2", office, 4)
    assert refusal(honest, site, clock) is Exit.DOWNGRADE

    del office.targets_keys["tara"]
    office.targets_keys |= signed.people("tess")
    office.publish()
    recovered = signed.bundle(tmp_path / "3", office, 4)

    assert install(recovered, site, clock).manifest.serial == 4
    assert refusal(tmp_path / "evil", site, clock) is Exit.BAD_SIGNATURE


def test_replacing_an_uninvolved_signer_forgets_nothing(
    office: Office, site: Site, clock: ManualClock, tmp_path: Path
) -> None:
    """The control of the test above: the two who signed the highest serial are still believed."""
    install(signed.bundle(tmp_path / "1", office, 5), site, clock, office)
    del office.targets_keys["tomo"]
    office.targets_keys |= signed.people("tess")
    office.publish()

    older = signed.bundle(tmp_path / "2", office, 4)
    assert refusal(older, site, clock) is Exit.DOWNGRADE
    assert refusal(signed.bundle(tmp_path / "3", office, 4), site, clock) is Exit.DOWNGRADE
    assert install(signed.bundle(tmp_path / "4", office, 6), site, clock).manifest.serial == 6


def test_revoked_serial_is_refused_even_on_purpose(
    office: Office, site: Site, clock: ManualClock, tmp_path: Path
) -> None:
    """18: taken back by a later bundle, or by a refresh of itself."""
    taken_back = signed.bundle(tmp_path / "7", office, 7)
    install(signed.bundle(tmp_path / "8", office, 8, revoked=[7]), site, clock, office)
    assert refusal(taken_back, site, clock, allow_downgrade=True) is Exit.REVOKED

    own = signed.bundle(tmp_path / "9", office, 9)
    later = tmp_path / "later"
    signing.refresh(own, office.folder, later, 30, clock.now_us(), revoked=[9])
    for key in office.some:
        signing.sign(later, key)
    assert refusal(own, site, clock, refresh=later) is Exit.REVOKED
    install(own, site, clock)  # before this host heard of it
    verifying.take_refresh(later, site, clock)
    assert refusal(own, site, clock) is Exit.REVOKED


def test_lists_that_differ_are_refused(
    office: Office, site: Site, clock: ManualClock, tmp_path: Path
) -> None:
    """11: signers who sign a list of their own, beside metadata that says something else."""
    bundle = signed.bundle(tmp_path / "b", office)
    (bundle / "README.txt").write_bytes(b"other\n")
    digest = signed.sha(b"other\n")
    lines = (bundle / layout.SUMS).read_text().splitlines()
    lines = [f"{digest}  README.txt" if each.endswith("  README.txt") else each for each in lines]
    signed.resign(bundle, office, ("\n".join(lines) + "\n").encode())

    assert refusal(bundle, site, clock, fingerprints=office.prints()) is Exit.BAD_METADATA


def with_other_serial(targets: Targets) -> None:
    targets.targets[layout.MANIFEST].unrecognized_fields["custom"]["serial"] = 2


def with_other_moment(targets: Targets) -> None:
    targets.targets[layout.MANIFEST].unrecognized_fields["custom"]["built"] = "2026-09-19T00:00:00Z"


def with_other_size(targets: Targets) -> None:
    targets.targets["README.txt"].length += 1


def with_delegations(targets: Targets) -> None:
    targets.delegations = Delegations({}, {})


def as_it_is(targets: Targets) -> None:
    """The control."""


@pytest.mark.parametrize(
    "change", [with_other_serial, with_other_moment, with_other_size, with_delegations, as_it_is]
)
def test_metadata_that_contradicts_the_manifest_is_refused(
    change: Callable[[Targets], None], office: Office, site: Site, clock: ManualClock, tmp_path: Path
) -> None:
    """11, though the right people signed it."""
    bundle = signed.bundle(tmp_path / "b", office)
    path = bundle / "metadata/1000.targets.json"
    document: Metadata[Targets] = Metadata[Targets].from_bytes(path.read_bytes())
    change(document.signed)
    document.signatures.clear()
    for key in office.some:
        document.sign(key.signers[Kind.ED25519], append=True)
    path.write_bytes(metadata.dump(document))

    if change is as_it_is:
        assert install(bundle, site, clock, office).manifest.serial == 1
    else:
        assert refusal(bundle, site, clock, fingerprints=office.prints()) is Exit.BAD_METADATA


def test_store_stands_in_for_what_the_folder_lacks(
    office: Office, site: Site, clock: ManualClock, tmp_path: Path
) -> None:
    """A model that the host holds is read there: good content is accepted, altered content refused."""
    bundle = signed.bundle(tmp_path / "b", office)
    found = verifying.verify(bundle, site, clock, fingerprints=office.prints())
    blob = found.manifest.blobs[0]
    held = tmp_path / "held"
    held.write_bytes(b"".join((bundle / path).read_bytes() for path in blob.paths))
    for path in blob.paths:
        (bundle / path).unlink()
    paper = office.prints()

    assert refusal(bundle, site, clock, fingerprints=paper) is Exit.MISSING
    again = verifying.verify(bundle, site, clock, fingerprints=paper, present={blob.sha256: held})
    assert again.num_bytes == found.num_bytes
    data = bytearray(held.read_bytes())
    data[-1] ^= 1
    held.write_bytes(data)
    assert refusal(bundle, site, clock, fingerprints=paper, present={blob.sha256: held}) is Exit.WRONG_DIGEST
    held.unlink()
    assert refusal(bundle, site, clock, fingerprints=paper, present={blob.sha256: held}) is Exit.MISSING


def test_progress_tells_every_byte_once(
    office: Office, site: Site, clock: ManualClock, tmp_path: Path
) -> None:
    """From nothing to the total, never back."""
    told: list[tuple[int, int]] = []
    bundle = signed.bundle(tmp_path / "b", office)
    found = verifying.verify(
        bundle, site, clock, fingerprints=office.prints(), progress=lambda *each: told.append(each)
    )

    assert told[0] == (0, found.num_bytes)
    assert told[-1] == (found.num_bytes, found.num_bytes)
    assert told == sorted(told)


def test_damaged_trust_is_a_fault_of_the_host(
    office: Office, site: Site, clock: ManualClock, tmp_path: Path
) -> None:
    """20: it is neither ignored nor taken for a bare host, where fingerprints would do."""
    bundle = signed.bundle(tmp_path / "b", office)
    install(bundle, site, clock, office)
    path = site.trust / "trust.json"
    good = path.read_bytes()
    for bad in (b"", good[: len(good) // 2], good.replace(rb"\"version\": 1", rb"\"version\": 2"), b"[]"):
        path.write_bytes(bad)
        assert refusal(bundle, site, clock, fingerprints=office.prints()) is Exit.PREFLIGHT
    path.write_bytes(good)
    assert install(bundle, site, clock).manifest.serial == 1


@pytest.mark.parametrize("point", ["os.write", "os.fsync", "pathlib.Path.replace"])
def test_disk_that_fails_leaves_what_was_believed(
    point: str,
    office: Office,
    site: Site,
    clock: ManualClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the rename nothing has changed; accepting again afterwards completes it."""
    install(signed.bundle(tmp_path / "5", office, 5), site, clock, office)
    before = trusted.load(site)
    found = verifying.verify(signed.bundle(tmp_path / "6", office, 6), site, clock)

    def fail(*_words: object) -> None:
        raise OSError(28, "no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(point, fail)
        with pytest.raises(OSError, match="no space"):
            trusted.accept(site, found, clock.now_us())
    assert trusted.load(site) == before
    trusted.accept(site, found, clock.now_us())
    assert refusal(tmp_path / "5", site, clock) is Exit.DOWNGRADE


def test_state_is_readable_by_all_and_written_by_its_owner(
    office: Office, site: Site, clock: ManualClock, tmp_path: Path
) -> None:
    """And accepting twice changes nothing."""
    bundle = signed.bundle(tmp_path / "b", office)
    install(bundle, site, clock, office)
    path = site.trust / "trust.json"
    first = path.read_bytes()
    install(bundle, site, clock)

    assert path.read_bytes() == first
    assert path.stat().st_mode & 0o777 == 0o644
    assert site.state.stat().st_mode & 0o777 == 0o755


def test_both_views_list_the_same_digests(office: Office, tmp_path: Path) -> None:
    """`SHA256SUMS` and the targets of The Update Framework, read by nothing of ours."""
    bundle = signed.bundle(tmp_path / "b", office)
    shell = {line[66:]: line[:64] for line in (bundle / layout.SUMS).read_text().splitlines()}
    document = json.loads((bundle / "metadata/1000.targets.json").read_bytes())
    targets = {path: each["hashes"]["sha256"] for path, each in document["signed"]["targets"].items()}

    assert shell == targets
    assert {"metadata/1.root.json", "manifest.json"} < shell.keys()
    assert len([path for path in shell if path.startswith("keys/")]) == 6
