"""Signed notes and checkpoints: one form, checked by tools that are not ours."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.audit import checkpoint
from appliance.audit.checkpoint import Checkpoint, Signer, Verifier
from appliance.errors import VerificationError
from tests.needed import need

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = Signer("box.example/audit/1", KEY)
HEAD = Checkpoint(origin="box.example/audit/1", size=7, root=bytes(range(32)))
NOTE = SIGNER.sign(HEAD.text())


def test_round_trip() -> None:
    """What is signed opens to the same checkpoint."""
    assert checkpoint.open_checkpoint(NOTE, SIGNER.verifier) == HEAD


def test_note_has_the_form_of_the_specification() -> None:
    """C2SP signed-note: text, empty line, em dash, name, base64 of key id and signature."""
    text, signature = NOTE.split("\n\n")
    dash, name, encoded = signature.rstrip("\n").split(" ")

    assert text == f"box.example/audit/1\n7\n{base64.b64encode(HEAD.root).decode()}"
    assert (dash, name) == ("—", "box.example/audit/1")
    assert base64.b64decode(encoded)[:4] == SIGNER.verifier.key_id
    assert len(base64.b64decode(encoded)) == 4 + 64


def test_vkey_round_trip() -> None:
    """The verifier key's text form is read back, and only in that form."""
    text = SIGNER.verifier.text()

    assert Verifier.parse(text) == SIGNER.verifier
    for bad in (text + "=", text.replace("+", "-", 1), text[:-4], "", "a+b+c"):
        with pytest.raises(VerificationError):
            Verifier.parse(bad)


def test_openssl_verifies_the_signature(tmp_path: Path) -> None:
    """A third party needs openssl and nothing of ours; a changed text is refused."""
    need("openssl", package="openssl")
    text, _, signature = NOTE.partition("\n\n")
    public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(public)
    (tmp_path / "signature").write_bytes(base64.b64decode(signature.split(" ")[2])[4:])

    def verify(signed: str) -> int:
        (tmp_path / "text").write_text(signed, encoding="utf-8")
        return subprocess.run(
            ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", "text",
             "-sigfile", "signature"],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        ).returncode  # fmt: skip

    assert verify(text + "\n") == 0
    assert verify(text.replace("\n7\n", "\n8\n") + "\n") != 0


def test_unknown_signatures_are_ignored_and_ours_is_required() -> None:
    """Cosignatures of others do not disturb; a note without ours is refused."""
    other = Signer("witness.example", Ed25519PrivateKey.from_private_bytes(bytes(32)))
    cosigned = NOTE + other.sign(HEAD.text()).partition("\n\n")[2]

    assert checkpoint.open_checkpoint(cosigned, SIGNER.verifier) == HEAD
    with pytest.raises(VerificationError, match="expected key"):
        checkpoint.open_note(other.sign(HEAD.text()), SIGNER.verifier)


@pytest.mark.parametrize(
    "bad",
    [
        NOTE.replace("\n7\n", "\n8\n"),
        NOTE.replace("\n\n", "\n"),
        NOTE[:-1],
        NOTE + "x",
        NOTE.replace("—", "-"),
        NOTE.replace("audit/1\n7", "audit/1\r\n7"),
        "",
        "\n\n",
    ],
)
def test_damaged_notes_are_refused(bad: str) -> None:
    """Every damage is a VerificationError, never another exception."""
    with pytest.raises(VerificationError):
        checkpoint.open_checkpoint(bad, SIGNER.verifier)


@pytest.mark.parametrize(
    "text",
    [
        HEAD.text().replace("\n7\n", "\n07\n"),
        HEAD.text().replace("\n7\n", "\n+7\n"),
        HEAD.text().replace("\n7\n", "\n-7\n"),
        HEAD.text() + "extension\n",
        HEAD.text().replace("=\n", "\n"),
        "\n7\n" + base64.b64encode(bytes(32)).decode() + "\n",
    ],
)
def test_second_forms_of_one_checkpoint_are_refused(text: str) -> None:
    """Leading zeros, signs, missing padding, extra lines: one value has one form."""
    with pytest.raises(VerificationError):
        checkpoint.parse(text)
