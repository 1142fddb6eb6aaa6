"""The evidence guide, command by command; the same export is the same file; no change goes unseen."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from appliance.audit import archive, evidence, files, query
from appliance.audit.checkpoint import Verifier
from appliance.audit.kinds import Kind
from appliance.config import Home
from appliance.errors import VerificationError
from tests.clocks import ManualClock
from tests.harness import appliance
from tests.homes import make_home
from tests.integration.test_witness import commands, run
from tests.needed import need
from tests.records import assert_verified
from tests.unit.audit.test_log import open_log, opening

pytestmark = pytest.mark.integration

GUIDE = Path(__file__).parents[2] / "deploy" / "guides" / "evidence.md"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Path]:
    """A home with some records, and what the guide's commands make of it."""
    folder = tmp_path_factory.mktemp("evidence")
    home = make_home(folder / "home")
    log = open_log(home, ManualClock())
    for number in range(4):
        log.append_sync(opening(f"req_{number}", text=f"question {number} — ünïcode"))
    log.close()
    shutil.copy(home.keys / "dev-auditor.identity", folder)
    shutil.copy(home.keys / "log.vkey", folder)
    for line in commands(GUIDE):
        if line.startswith("appliance"):
            run(line, folder, home)
        else:
            need("unzip", package="unzip") if line.startswith("unzip") else None
            assert subprocess.run(["bash", "-ec", line], cwd=folder, check=False).returncode == 0, line
    return home, folder


def log_of(folder: Path) -> Verifier:
    return Verifier.parse((folder / "log.vkey").read_text().strip())


def test_the_guide_does_what_it_says(exported: tuple[Home, Path]) -> None:
    """Every command as it stands; each export is on the record, and the record is green."""
    home, folder = exported
    found = query.search(home.database, kind=Kind.AUDIT_EXPORTED)[::-1]
    assert [each.public for each in found] == [
        {"form": "opened", "num_records": 2, "num_shares": 1},
        {"form": "sealed", "num_records": 2, "num_shares": 1},
        {"form": "redacted", "num_records": 2, "num_shares": 1},
        {"form": "range", "begin": 0, "end": 5},
    ]
    checked = appliance(
        "audit", "check-evidence", str(folder / "case.zip"), "--vkey", str(folder / "log.vkey")
    )
    assert "ok: 3 " in checked.stdout
    assert "others is not shown" in checked.stdout
    ranged = appliance("audit", "check-evidence", str(folder / "folder"), "--vkey", str(folder / "log.vkey"))
    assert "complete: these are all entries from 0 to before 5" in ranged.stdout
    assert_verified(home)


def test_contents_are_disclosed_to_who_reads_the_file(exported: tuple[Home, Path]) -> None:
    """With an identity the content is in the file and checked; without, it stays sealed."""
    home, folder = exported
    openings = query.search(home.database, kind=Kind.REQUEST_OPENED)
    seq = str(openings[0].seq)
    identity = str(folder / "dev-auditor.identity")
    for options, content in ((["--identity", identity], "question 3 — ünïcode"), ([], None)):
        out = folder / f"one{len(options)}.zip"
        appliance("audit", "export", seq, "--purpose", "a test", "--out", str(out), *options, home=home)
        told = appliance("audit", "check-evidence", str(out), "--vkey", str(folder / "log.vkey"), "--json")
        (record,) = json.loads(told.stdout)["records"]
        assert record["has_ciphertext"] is True
        assert (json.loads(record["content"])["text"] if record["content"] else None) == content
    names = set(archive.read(folder / "one0.zip"))
    assert not {name for name in names if name.endswith((".key", ".plain.json"))}


def test_openssl_opens_a_disclosed_content(exported: tuple[Home, Path]) -> None:
    """Step 4 of the README: tail, head and openssl give the plaintext; no GCM, no program of ours."""
    need("openssl", package="openssl")
    home, folder = exported
    seq = query.search(home.database, kind=Kind.REQUEST_OPENED)[0].seq
    found = archive.read(folder / "case.zip")
    if f"record-{seq}.key" not in found:
        appliance("audit", "export", str(seq), "--purpose", "a test", "--out", str(folder / "ssl.zip"),
                  "--identity", str(folder / "dev-auditor.identity"), home=home)  # fmt: skip
        found = archive.read(folder / "ssl.zip")
    (folder / "record.ct").write_bytes(found[f"record-{seq}.ct"])
    key = json.loads(found[f"record-{seq}.key"])
    script = (
        "tail -c +13 record.ct | head -c -16 > ciphertext; openssl enc -d -aes-256-ctr"
        f" -K {key['key']} -iv {key['nonce']}00000002 -in ciphertext | tail -c +21"
    )
    done = subprocess.run(["bash", "-ec", script], cwd=folder, capture_output=True, check=True)

    assert done.stdout.rstrip(b"\0") == found[f"record-{seq}.plain.json"].rstrip(b"\n")


def test_the_same_export_is_the_same_file(exported: tuple[Home, Path]) -> None:
    """Made twice from the same proofs: not a byte differs. A second file is not written over the first."""
    home, folder = exported
    made = archive.read(folder / "case.zip")
    with zipfile.ZipFile(folder / "case.zip") as zipped:
        assert zipped.namelist() == sorted(made)
        assert {info.date_time for info in zipped.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    signer = files.load_keys(home, log_of(folder).name).signer
    rest = {name: data for name, data in made.items() if not name.startswith("SHA256SUMS")}
    assert evidence.signed(rest, {}, signer) == made
    again = appliance(
        "audit",
        "export",
        "3",
        "--purpose",
        "a test",
        "--out",
        str(folder / "case.zip"),
        home=home,
        check=False,
    )
    assert (again.returncode, "exists" in again.stderr) == (2, True)


@pytest.mark.parametrize("name", ["case.zip", "folder"])
def test_every_changed_file_is_found(exported: tuple[Home, Path], name: str) -> None:
    """Each file changed, dropped, or exchanged with a re-made list of digests: refused, always."""
    home, folder = exported
    log = log_of(folder)
    made = archive.read(folder / name)
    signer = files.load_keys(home, log.name).signer
    assert evidence.check(made, log).origin == log.name
    survivors = []
    for each, data in made.items():
        for changed in (
            {**made, each: data[:-1] + bytes([data[-1] ^ 1])},
            {**made, each: data + b" "},
            {other: value for other, value in made.items() if other != each},
            {**made, f"{each}x": data},
        ):
            with pytest.raises(VerificationError):
                evidence.check(changed, log)
            # Even where the log's own key signs the changed list: what proves must be proved.
            rest = {other: value for other, value in changed.items() if not other.startswith("SHA256SUMS")}
            try:
                evidence.check(evidence.signed(rest, {}, signer), log)
            except VerificationError:
                continue
            survivors.append(each)
    assert set(survivors) <= {"README.txt", "verify.sh", "policy", "SHA256SUMS", "SHA256SUMS.note"}


def test_strange_archives_are_refused(exported: tuple[Home, Path], tmp_path: Path) -> None:
    """No archive, a cut one, one that names a file twice, another log's key: exit code 1 and a sentence."""
    _, folder = exported
    whole = (folder / "case.zip").read_bytes()
    twice = io.BytesIO(whole)
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("policy", b"")
    for data in (b"", whole[:-40], twice.getvalue(), whole[:500] + whole[600:]):
        (tmp_path / "case.zip").write_bytes(data)
        done = appliance(
            "audit",
            "check-evidence",
            str(tmp_path / "case.zip"),
            "--vkey",
            str(folder / "log.vkey"),
            check=False,
        )
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
    other = make_home(tmp_path / "other")
    done = appliance(
        "audit",
        "check-evidence",
        str(folder / "case.zip"),
        "--vkey",
        str(other.keys / "log.vkey"),
        check=False,
    )
    assert done.returncode == 1


def test_a_required_witness_must_have_been_there(exported: tuple[Home, Path], tmp_path: Path) -> None:
    """With --witness the checkpoint needs that witness's word; after a visit it has it."""
    home, folder = exported
    appliance("audit", "witness", "keygen", "court", "--out", str(tmp_path))
    vkey, public = str(folder / "log.vkey"), str(tmp_path / "court.vkey")
    trust = ("--vkey", vkey, "--witness", public)
    unseen = appliance("audit", "check-evidence", str(folder / "case.zip"), *trust, check=False)
    assert "no witness of yours" in unseen.stderr
    appliance("audit", "witness", "add", public, home=home)
    request, answer = str(tmp_path / "request"), str(tmp_path / "answer")
    appliance("audit", "witness", "export", "--out", request, home=home)
    key = ("--key", str(tmp_path / "court.witness"), "--log", vkey)
    appliance("audit", "witness", "cosign", request, *key, "--out", answer)
    appliance("audit", "witness", "import", answer, home=home)
    appliance("audit", "export", "3", "--purpose", "a test", "--out", str(tmp_path / "seen.zip"), home=home)
    seen = appliance(
        "audit", "check-evidence", str(tmp_path / "seen.zip"), "--vkey", vkey, "--witness", public
    )
    assert "seen by court" in seen.stdout
