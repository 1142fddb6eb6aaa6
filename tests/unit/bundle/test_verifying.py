"""Every attack on a bundle is refused with its own exit code, by the program and by `verify.sh`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.bundle import layout, signing, trusted, verifying
from appliance.bundle.keys import Kind
from appliance.bundle.layout import Site
from appliance.bundle.refusals import Exit
from tests import bundles, signed
from tests.clocks import ManualClock
from tests.signed import Office, refusal

SERIAL = 37
SHELLS = (["dash"], ["bash", "--posix"])


@dataclass(frozen=True)
class Ground:
    """An office, a signed bundle that nobody touched, and one that is older."""

    office: Office
    bundle: Path
    older: Path


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    place = tmp_path_factory.mktemp("ground")
    office = signed.office(place / "roots")
    return Ground(
        office,
        signed.bundle(place / "bundle", office, SERIAL),
        signed.bundle(place / "older", office, SERIAL - 1),
    )


@pytest.fixture
def staged(ground: Ground, tmp_path: Path) -> Path:
    """A copy to injure."""
    return signed.copy(ground.bundle, tmp_path / "staged")


def by_shell(staged: Path, prints: list[str], *options: str, shell: list[str] | None = None) -> int:
    done = subprocess.run(
        [*(shell or ["sh"]), str(signed.DEPLOY / "verify.sh"), *options, *prints],
        cwd=staged,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode


def model_part(place: Path) -> Path:
    return next(place.glob("blobs/sha256/*/*.p0001"))


def signature(place: Path) -> Path:
    return min(place.glob("SHA256SUMS.*.ed25519.sig"))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def flipped_model(place: Path, office: Office) -> None:
    flip(model_part(place))


def flipped_wheel(place: Path, office: Office) -> None:
    flip(place / bundles.TINY_WHEEL)


def flipped_manifest(place: Path, office: Office) -> None:
    flip(place / layout.MANIFEST)


def flipped_root(place: Path, office: Office) -> None:
    flip(place / "metadata/1.root.json")


def longer(place: Path, office: Office) -> None:
    with (place / "README.txt").open("ab") as file:
        file.write(b"\n")


def missing(place: Path, office: Office) -> None:
    model_part(place).unlink()


def missing_list(place: Path, office: Office) -> None:
    (place / layout.SUMS).unlink()


def extra(place: Path, office: Office) -> None:
    (place / "wheels/evil-1.0-py3-none-any.whl").write_bytes(b"evil")


def extra_disguised(place: Path, office: Office) -> None:
    (place / "metadata/evil.json").write_bytes(b"{}")


def renamed(place: Path, office: Office) -> None:
    (place / "README.txt").rename(place / "README.md")


def linked(place: Path, office: Office) -> None:
    (place / "README.txt").rename(place.parent / "elsewhere")
    (place / "README.txt").symlink_to(place.parent / "elsewhere")


def linked_folder(place: Path, office: Office) -> None:
    (place / "licences").rename(place.parent / "elsewhere")
    (place / "licences").symlink_to(place.parent / "elsewhere")


def a_pipe(place: Path, office: Office) -> None:
    (place / "README.txt").unlink()
    os.mkfifo(place / "README.txt")


def hidden(place: Path, office: Office) -> None:
    (place / ".profile").write_bytes(b"evil")


def spaced(place: Path, office: Office) -> None:
    (place / "a name\nwith a line").write_bytes(b"evil")


def wrong_key(place: Path, office: Office) -> None:
    """Everything signed again by strangers, whose keys bear their own names."""
    strangers = signed.office(place.parent / "strangers")
    signing.start(place, strangers.folder, 700)
    for key in strangers.some:
        signing.sign(place, key)


def impostor(place: Path, office: Office) -> None:
    """A stranger's key and signature under the names of one that stands on paper."""
    stranger = signed.people("stranger")["stranger"]
    public = stranger.public.key(Kind.ED25519)
    assert public is not None
    name = signature(place).name.split(".")[1]
    (place / f"keys/{name}.ed25519.pem").write_bytes(public.pem)
    signature(place).write_bytes(stranger.sign(Kind.ED25519, (place / layout.SUMS).read_bytes()))


def one_signer(place: Path, office: Office) -> None:
    signature(place).unlink()
    for each in sorted(place.glob("SHA256SUMS.*.p384.sig"))[1:]:
        each.unlink()


def truncated_signature(place: Path, office: Office) -> None:
    signature(place).write_bytes(signature(place).read_bytes()[:-1])


def empty_signature(place: Path, office: Office) -> None:
    signature(place).write_bytes(b"")


def key_missing(place: Path, office: Office) -> None:
    (place / f"keys/{signature(place).name.split('.')[1]}.ed25519.pem").unlink()


def other_signature(place: Path, office: Office) -> None:
    flip(signature(place))


def edited_list(place: Path, office: Office) -> None:
    flip(place / "README.txt")
    digest = signed.sha((place / "README.txt").read_bytes())
    lines = (place / layout.SUMS).read_text().splitlines()
    lines = [f"{digest}  README.txt" if each.endswith("  README.txt") else each for each in lines]
    (place / layout.SUMS).write_text("\n".join(lines) + "\n")


def emptied_list(place: Path, office: Office) -> None:
    (place / layout.SUMS).write_bytes(b"")


def signed_hostile(path: str) -> Callable[[Path, Office], None]:
    def act(place: Path, office: Office) -> None:
        signed.resign(place, office, signed.edited(place, "  README.txt", f"  {path}"))

    act.__name__ = f"signed {path}"
    return act


def signed_capitals(place: Path, office: Office) -> None:
    text = (place / layout.SUMS).read_text()
    signed.resign(place, office, (text[:64].upper() + text[64:]).encode())


def signed_empty(place: Path, office: Office) -> None:
    signed.resign(place, office, b"")


def signed_twice(place: Path, office: Office) -> None:
    text = (place / layout.SUMS).read_text()
    signed.resign(place, office, (text + text.splitlines()[0] + "\n").encode())


ATTACKS: list[tuple[Callable[[Path, Office], None], Exit]] = [
    (flipped_model, Exit.WRONG_DIGEST),
    (flipped_wheel, Exit.WRONG_DIGEST),
    (flipped_manifest, Exit.WRONG_DIGEST),
    (flipped_root, Exit.WRONG_DIGEST),
    (longer, Exit.WRONG_DIGEST),
    (missing, Exit.MISSING),
    (missing_list, Exit.MISSING),
    (extra, Exit.WRONG_DIGEST),
    (extra_disguised, Exit.WRONG_DIGEST),
    (renamed, Exit.WRONG_DIGEST),
    (linked, Exit.BAD_METADATA),
    (linked_folder, Exit.BAD_METADATA),
    (a_pipe, Exit.BAD_METADATA),
    (hidden, Exit.BAD_METADATA),
    (spaced, Exit.BAD_METADATA),
    (wrong_key, Exit.BAD_SIGNATURE),
    (impostor, Exit.BAD_SIGNATURE),
    (one_signer, Exit.BAD_SIGNATURE),
    (truncated_signature, Exit.BAD_SIGNATURE),
    (empty_signature, Exit.BAD_SIGNATURE),
    (key_missing, Exit.BAD_SIGNATURE),
    (other_signature, Exit.BAD_SIGNATURE),
    (edited_list, Exit.BAD_SIGNATURE),
    (emptied_list, Exit.BAD_METADATA),
    (signed_hostile("../README.txt"), Exit.BAD_METADATA),
    (signed_hostile("/etc/passwd"), Exit.BAD_METADATA),
    (signed_hostile("-rf"), Exit.BAD_METADATA),
    (signed_hostile("a b"), Exit.BAD_METADATA),
    (signed_capitals, Exit.BAD_METADATA),
    (signed_empty, Exit.BAD_METADATA),
    (signed_twice, Exit.BAD_METADATA),
]
TABLE = pytest.mark.parametrize(("attack", "code"), ATTACKS, ids=[each.__name__ for each, _ in ATTACKS])


def test_untouched_bundle_is_believed_by_everybody(ground: Ground, site: Site, clock: ManualClock) -> None:
    """The control of every attack below: on a bare host, on one that knows the signers, and by the shell."""
    paper = ground.office.prints()
    found = verifying.verify(ground.bundle, site, clock, fingerprints=paper)
    trusted.accept(site, found, clock.now_us())
    again = verifying.verify(ground.bundle, site, clock)

    assert found == again
    assert (found.manifest.serial, found.signers) == (SERIAL, ("tara", "theo"))
    assert by_shell(ground.bundle, paper) == 0


@TABLE
def test_attack_is_refused_on_a_bare_host(
    attack: Callable[[Path, Office], None],
    code: Exit,
    ground: Ground,
    staged: Path,
    site: Site,
    clock: ManualClock,
) -> None:
    """With fingerprints from paper only."""
    attack(staged, ground.office)

    assert refusal(staged, site, clock, fingerprints=ground.office.prints()) is code


@TABLE
def test_attack_is_refused_by_a_host_that_knows_the_signers(
    attack: Callable[[Path, Office], None],
    code: Exit,
    ground: Ground,
    staged: Path,
    site: Site,
    clock: ManualClock,
) -> None:
    """As an upgrade: nobody types a fingerprint."""
    found = verifying.verify(ground.bundle, site, clock, fingerprints=ground.office.prints())
    trusted.accept(site, found, clock.now_us())
    attack(staged, ground.office)

    assert refusal(staged, site, clock) is code


@TABLE
@pytest.mark.parametrize("shell", SHELLS, ids=["dash", "bash"])
def test_attack_is_refused_by_the_shell(
    attack: Callable[[Path, Office], None],
    code: Exit,
    shell: list[str],
    ground: Ground,
    staged: Path,
) -> None:
    """verify.sh ends with the same code, under both shells."""
    attack(staged, ground.office)

    assert by_shell(staged, ground.office.prints(), shell=shell) == code
