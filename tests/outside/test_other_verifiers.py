"""A fresh log of random size, checked by programs that this project did not write."""

from __future__ import annotations

import base64
import random
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance import db
from appliance.audit import checkpoint, files, merkle, proving
from appliance.audit.cosignature import Cosigner
from appliance.audit.proving import RECIPE
from appliance.config import Home
from tests.clocks import ManualClock
from tests.homes import make_home
from tests.needed import need
from tests.outside import tools
from tests.unit.audit.test_log import open_log, opening

WITNESS = Cosigner("witness.example/1", Ed25519PrivateKey.generate())


@dataclass(frozen=True)
class Log:
    """A home, its keys as others see them, and two checkpoints."""

    home: Home
    vkey: str
    old: str
    new: str
    size: int

    def proof(self, seq: int, folder: Path) -> tuple[Path, Path]:
        """The entry's header and its proof, cosigned, as files."""
        header, proof = proving.proof_at(self.home.database, seq)
        text = checkpoint.read_note(proof.note).text
        (folder / "record.json").write_bytes(header)
        (folder / "record.tlog-proof").write_bytes(
            proof.encode() + WITNESS.cosign(text, 1_790_000_000).encode()
        )
        return folder / "record.json", folder / "record.tlog-proof"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Grown in two parts; the sizes are drawn anew in every run, and told by -v output on failure."""
    home = make_home(tmp_path_factory.mktemp("log") / "home")
    clock = ManualClock()
    notes: list[str] = []
    for _ in range(2):
        opened = open_log(home, clock)
        for number in range(random.randint(1, 150)):
            opened.append_sync(opening(f"req_{len(notes)}_{number}"))
        opened.close()
        notes.append(files.read_head(home))
    size = checkpoint.parse(checkpoint.read_note(notes[1]).text).size
    return Log(home, files.read_verifier(home).text(), notes[0], notes[1], size)


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tools.go_program(tmp_path_factory.mktemp("go"))


def run(*command: str | Path) -> bool:
    """Whether the program accepts; anything but accepted or refused is a fault of the test."""
    done = subprocess.run(list(map(str, command)), capture_output=True, check=False, timeout=60)
    assert done.returncode in {0, 1}, done.stderr
    return done.returncode == 0


def flipped(path: Path) -> Path:
    """The same file with one bit of one letter or digit changed.

    Not the last letter before a padding: its low bits mean nothing to the lenient decoders of others.
    """
    data = bytearray(path.read_bytes())
    places = [at for at in range(len(data) - 1) if data[at : at + 1].isalnum() and data[at + 1] != ord("=")]
    data[random.choice(places)] ^= 1
    changed = path.with_name("changed-" + path.name)
    changed.write_bytes(bytes(data))
    return changed


def samples(size: int) -> Sequence[int]:
    return sorted({0, size - 1, *(random.randrange(size) for _ in range(4))})


def test_go_verifies_inclusion_and_cosignature(log: Log, go: Path, tmp_path: Path) -> None:
    """Go's sumdb/note opens the note with both keys, sumdb/tlog finds the entry; flipped bits are refused."""
    witness = WITNESS.verifier.text()
    for seq in samples(log.size):
        record, proof = log.proof(seq, tmp_path)
        assert run(go, "proof", proof, record, log.vkey, witness), seq
        assert not run(go, "proof", proof, flipped(record), log.vkey, witness), seq
        assert not run(go, "proof", flipped(proof), record, log.vkey, witness), seq
    stranger = Cosigner("witness.example/1", Ed25519PrivateKey.generate()).verifier.text()
    assert not run(go, "proof", proof, record, log.vkey, stranger)


def test_go_verifies_consistency(log: Log, go: Path, tmp_path: Path) -> None:
    """The older checkpoint's tree is the beginning of the newer one's; the other way round is refused."""
    old = checkpoint.parse(checkpoint.read_note(log.old).text)
    with db.reading(log.home.database) as connection:
        hashes = merkle.consistency_proof(old.size, log.size, proving.reader(connection))
    old_note, new_note, path = tmp_path / "old", tmp_path / "new", tmp_path / "hashes"
    old_note.write_text(log.old)
    new_note.write_text(log.new)
    path.write_text("".join(f"{base64.b64encode(each).decode()}\n" for each in hashes))

    assert run(go, "consistency", old_note, new_note, path, log.vkey)
    assert not run(go, "consistency", new_note, old_note, path, log.vkey)
    assert not run(go, "consistency", old_note, flipped(new_note), path, log.vkey)
    assert not run(go, "consistency", old_note, new_note, flipped(path), log.vkey)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_shell_recipe_verifies(log: Log, tmp_path: Path, shell: str) -> None:
    """sh, coreutils, xxd and openssl are enough; flipped bits, other keys and other logs are refused."""
    for program, package in (("xxd", "xxd"), ("openssl", "openssl"), (shell, shell)):
        need(program, package=package)
    recipe = tmp_path / "verify.sh"
    recipe.write_bytes(RECIPE.read_bytes())
    for seq in samples(log.size):
        record, proof = log.proof(seq, tmp_path)
        assert run(shell, recipe, record, proof, log.vkey), seq
        assert not run(shell, recipe, flipped(record), proof, log.vkey), seq
    head, _, note = proof.read_bytes().partition(b"\n\n")
    for changed in (
        head.replace(b"index ", b"index 1") + b"\n\n" + note,
        head.rpartition(b"\n")[0] + b"\n\n" + note,
        head + b"\n\n" + note.replace(f"\n{log.size}\n".encode(), f"\n{log.size + 1}\n".encode()),
    ):
        (tmp_path / "changed").write_bytes(changed)
        assert not run(shell, recipe, record, tmp_path / "changed", log.vkey), changed
    stranger = checkpoint.Signer(log.vkey.partition("+")[0], Ed25519PrivateKey.generate())
    assert not run(shell, recipe, record, proof, stranger.verifier.text())
