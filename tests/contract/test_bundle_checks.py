"""A bundle is checked by programs that are not ours: the guide's commands by hand, verify.sh, python-tuf."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

from appliance.bundle import layout
from appliance.bundle.keys import Kind
from tests import signed
from tests.signed import Office

GUIDE = (signed.DEPLOY / "guides/signing.md").read_text()
VERIFY = signed.DEPLOY / "verify.sh"
SHELLS = (["dash"], ["bash", "--posix"])
FAR_DAYS = 3000  # python-tuf asks the real clock


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    return Office(tmp_path_factory.mktemp("o") / "roots", days=FAR_DAYS + 400).publish()


@pytest.fixture
def bundle(office: Office, tmp_path: Path) -> Path:
    return signed.bundle(tmp_path / "bundle", office, 3, days=FAR_DAYS)


def run(command: list[str], cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False)


def by_hand() -> list[str]:
    """The guide's commands, in order: fingerprint, signature, form, digests; then P-384's."""
    section = GUIDE.split("## By hand")[1]
    block = section.split("```text\n")[1].split("```")[0]
    lines = [re.sub(r"\s+#.*", "", line) for line in block.splitlines()]
    p384 = re.search(r"`(openssl dgst [^`]+)`", section)
    assert p384 is not None
    return [*lines, p384[1]]


@pytest.mark.parametrize("name", ["tara", "theo"])
def test_commands_by_hand_accept_it(name: str, bundle: Path, office: Office) -> None:
    """The four lines of the guide, typed as they stand, with openssl and coreutils."""
    fingerprint, signature, form, digests, p384 = by_hand()
    ed25519, curve = (office.targets_keys[name].public.key(kind) for kind in Kind)
    assert ed25519 is not None
    assert curve is not None

    shown = run(["sh", "-c", fingerprint.replace("ID", ed25519.key_id)], bundle)
    assert shown.stdout.split()[0] == ed25519.fingerprint
    assert run(["sh", "-c", signature.replace("ID", ed25519.key_id)], bundle).returncode == 0
    assert run(["sh", "-c", p384.replace("ID", curve.key_id)], bundle).returncode == 0
    assert run(["sh", "-c", form], bundle).stdout == ""
    assert (run(["sh", "-c", digests], bundle).returncode, run(["sh", "-c", digests], bundle).stdout) == (
        0,
        "",
    )


def test_commands_by_hand_find_what_is_wrong(bundle: Path, office: Office) -> None:
    """Their control: each of them turns red."""
    _, signature, form, digests, p384 = by_hand()
    ed25519, curve = (office.targets_keys["tara"].public.key(kind) for kind in Kind)
    assert ed25519 is not None
    assert curve is not None
    (bundle / "README.txt").write_bytes(b"other")
    assert run(["sh", "-c", digests], bundle).returncode != 0
    with (bundle / "SHA256SUMS").open("ab") as file:
        file.write(f"{'0' * 64}  ../x\n".encode())

    assert run(["sh", "-c", signature.replace("ID", ed25519.key_id)], bundle).returncode != 0
    assert run(["sh", "-c", p384.replace("ID", curve.key_id)], bundle).returncode != 0
    assert "../x" in run(["sh", "-c", form], bundle).stdout


@pytest.mark.parametrize("shell", SHELLS, ids=["dash", "bash"])
@pytest.mark.parametrize("option", ["", "--fips", "--python"])
def test_verify_sh_accepts_it_each_way(option: str, shell: list[str], bundle: Path, office: Office) -> None:
    """Ed25519 or P-384 with openssl, Ed25519 without it; fingerprints as people type them."""
    kind = Kind.P384 if option == "--fips" else Kind.ED25519
    prints = [" ".join(re.findall("....", each)).upper() for each in office.prints(kind)]
    words = [*shell, str(VERIFY), *([option] if option else [])]

    done = run([*words, *prints], bundle)
    assert (done.returncode, done.stdout[:5]) == (0, "good:")
    wrong_kind = office.prints(Kind.ED25519 if option == "--fips" else Kind.P384)
    assert run([*words, *wrong_kind], bundle).returncode == 15
    assert run([*words, prints[0], prints[0], prints[2]], bundle).returncode == 15
    (next(bundle.glob("SHA256SUMS.*.sig"))).write_bytes(b"")
    for each in bundle.glob("SHA256SUMS.*.sig"):
        each.write_bytes(b"")
    assert run([*words, *prints], bundle).returncode == 15


@pytest.mark.parametrize(
    "prints", [[], ["ab" * 32], ["ab" * 32, "xyz"], ["ab" * 32, "zz" * 32], ["--dream", "ab" * 32]]
)
def test_verify_sh_tells_wrong_usage(prints: list[str], bundle: Path) -> None:
    """2, and no word about the bundle."""
    done = run(["sh", str(VERIFY), *prints], bundle)

    assert done.returncode == 2
    assert "good" not in done.stdout


def test_verify_sh_is_not_led_astray_by_its_surroundings(
    bundle: Path, office: Office, tmp_path: Path
) -> None:
    """Programs in PATH, exported functions and openssl's configuration say yes to everything."""
    fakes = tmp_path / "fakes"
    fakes.mkdir()
    for name in ("openssl", "sha256sum", "find", "grep", "sort"):
        (fakes / name).write_text("#!/bin/sh\nexit 0\n")
        (fakes / name).chmod(0o755)
    (fakes / "openssl.cnf").write_text("openssl_conf = evil\n[evil]\nproviders = none\n[none]\n")
    env = {
        **os.environ,
        "PATH": f"{fakes}:{os.environ['PATH']}",
        "OPENSSL_CONF": str(fakes / "openssl.cnf"),
        "OPENSSL_MODULES": str(fakes),
        "BASH_FUNC_openssl%%": "() { return 0; }",
        "BASH_FUNC_sha256sum%%": "() { return 0; }",
        "CDPATH": str(fakes),
    }
    for shell in SHELLS:
        assert run([*shell, str(VERIFY), *office.prints()], bundle, env).returncode == 0
    (bundle / "README.txt").write_bytes(b"other")
    for shell in SHELLS:
        assert run([*shell, str(VERIFY), *office.prints()], bundle, env).returncode == 16
    next(bundle.glob("SHA256SUMS.*.ed25519.sig")).write_bytes(bytes(64))
    for shell in SHELLS:
        assert run([*shell, str(VERIFY), *office.prints()], bundle, env).returncode == 15


def test_verify_sh_on_one_volume_names_what_lies_elsewhere(bundle: Path, office: Office) -> None:
    """What is there must be whole; what is not there is listed; without the option it is missing."""
    part = next(bundle.glob("blobs/sha256/*/*.p0001"))
    part.unlink()
    (bundle / "VOLUME-01.SHA256SUMS").write_text("the medium's own list\n")
    name = str(part.relative_to(bundle))

    volume = run(["sh", str(VERIFY), "--volume", *office.prints()], bundle)
    assert volume.returncode == 0
    assert f"missing: {name}" in volume.stdout
    assert run(["sh", str(VERIFY), *office.prints()], bundle).returncode == 16  # the medium's list
    (bundle / "VOLUME-01.SHA256SUMS").unlink()
    assert run(["sh", str(VERIFY), *office.prints()], bundle).returncode == 14
    (bundle / "README.txt").write_bytes(b"other")
    assert run(["sh", str(VERIFY), "--volume", *office.prints()], bundle).returncode == 16


def test_verify_sh_allows_the_names_that_the_program_allows() -> None:
    """One pattern of paths, and one of what stands in no list, in both."""
    text = VERIFY.read_text()
    component = layout.PATH.pattern.split("(?:")[0]

    assert f"unlisted='{layout.UNLISTED.pattern}'" in text
    assert f"part='{component}'" in text
    assert component.replace("]*", "/]*").replace("-/]", "/-]") in GUIDE


def test_verify_sh_runs_no_other_program_of_the_folder(bundle: Path, office: Office) -> None:
    """With --python it knows the digest of the one that it runs; a bundle's word for it is not enough."""
    program = bundle / "ed25519_verify.py"
    assert signed.sha(program.read_bytes()) in VERIFY.read_text()
    program.write_text("raise SystemExit(0)\n")
    lines = (bundle / "SHA256SUMS").read_text().splitlines()
    digest = signed.sha(program.read_bytes())
    lines = [f"{digest}{each[64:]}" if each.endswith("  ed25519_verify.py") else each for each in lines]
    (bundle / "SHA256SUMS").write_text("\n".join(lines) + "\n")

    assert run(["sh", str(VERIFY), "--python", *office.prints()], bundle).returncode == 16


def test_verify_sh_is_short_enough_to_be_read() -> None:
    """A person reads it before they run it."""
    code = [line for line in VERIFY.read_text().splitlines() if line.strip() and not line.startswith("#")]

    assert len(code) < 50
    assert max(map(len, VERIFY.read_text().splitlines())) <= 120


class _Folder(FetcherInterface):
    """A repository that lies in a folder."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = Path(url.removeprefix("file://"))
        if not path.exists():
            raise DownloadHTTPError("not there", 404)
        return iter([path.read_bytes()])


def client(bundle: Path, state: Path, root: bytes) -> Updater:
    """python-tuf's own client over the folder, as anybody would write it."""
    state.mkdir(exist_ok=True)
    (state / "targets").mkdir(exist_ok=True)
    return Updater(
        str(state),
        f"file://{bundle}/metadata/",
        str(state / "targets"),
        f"file://{bundle}/",
        fetcher=_Folder(),
        bootstrap=root,
    )


def test_stock_client_of_the_update_framework_takes_every_file(
    bundle: Path, office: Office, tmp_path: Path
) -> None:
    """Without a line of ours: each path of the list is a target with the same digest, and downloads."""
    updater = client(bundle, tmp_path / "state", office.chain[0])
    updater.config.prefix_targets_with_hash = False
    updater.refresh()
    for line in (bundle / "SHA256SUMS").read_text().splitlines():
        target = updater.get_targetinfo(line[66:])
        assert target is not None
        assert target.hashes == {"sha256": line[:64]}
        updater.download_target(target)


def test_stock_client_refuses_an_older_bundle_and_follows_a_rotation(
    bundle: Path, office: Office, tmp_path: Path
) -> None:
    """The state that it keeps is enough for that."""
    newer = signed.bundle(tmp_path / "newer", office, 4, days=FAR_DAYS)
    state, root = tmp_path / "state", office.chain[0]
    client(newer, state, root).refresh()
    with pytest.raises(RepositoryError):
        client(bundle, state, root).refresh()

    del office.targets_keys["tara"]
    office.targets_keys |= signed.people("tess")
    office.publish()
    rotated = signed.bundle(tmp_path / "rotated", office, 5, days=FAR_DAYS)
    client(rotated, state, root).refresh()
