"""`deploy/ed25519_verify.py`: RFC 8032 with Python's own library, held against vectors and a real library."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import signed

PROGRAM = signed.DEPLOY / "ed25519_verify.py"
# RFC 8032, section 7.1: public key, message (the last one is the SHA-512 of "abc"), signature
VECTORS = (
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
            "d25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
            "387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
            "4a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        (
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd"
            "454d4423643ce80e2a9ac94fa54ca49f"
        ),
        (
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e030"
            "3dca179c138ac17ad9bef1177331a704"
        ),
    ),
)
ORDER = 2**252 + 27742317777372353535851937790883648493


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ed25519_verify", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def library(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@pytest.mark.parametrize(("public", "message", "signature"), VECTORS)
def test_vectors_of_the_rfc(public: str, message: str, signature: str, program: ModuleType) -> None:
    """Good as they stand, and bad with one bit changed in any of the three."""
    parts = [bytes.fromhex(each) for each in (public, signature, message)]
    assert program.verify(*parts)
    for number, part in enumerate(parts):
        changed = list(parts)
        changed[number] = bytes([part[0] ^ 1]) + part[1:] if part else b"\0"
        assert not program.verify(*changed)


def test_sixty_good_and_sixty_bad(program: ModuleType) -> None:
    """Random keys and messages; each bad one differs from a good one in one random bit."""
    chance = random.Random(8032)
    for _ in range(60):
        secret = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
        public, message = secret.public_key().public_bytes_raw(), chance.randbytes(chance.randrange(200))
        signature = secret.sign(message)
        bit = chance.randrange(512)
        bad = bytearray(signature)
        bad[bit // 8] ^= 1 << bit % 8

        assert program.verify(public, signature, message)
        assert not program.verify(public, bytes(bad), message)
        assert not library(public, bytes(bad), message)


def test_malleable_and_cut_signatures_are_refused(program: ModuleType) -> None:
    """S plus the group's order is the same signature in another form (RFC 8032, 5.1.7, step 1)."""
    secret = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public, signature = secret.public_key().public_bytes_raw(), secret.sign(b"m")
    s = int.from_bytes(signature[32:], "little") + ORDER
    other_form = signature[:32] + s.to_bytes(32, "little")
    no_point = (2**255 - 19).to_bytes(32, "little")

    for bad in (other_form, signature[:63], signature + b"\0", b"", bytes(64), no_point + signature[32:]):
        assert not program.verify(public, bad, b"m")
    for key in (no_point, b"\xff" * 32, public[:31], (2).to_bytes(32, "little")):
        assert not program.verify(key, signature, b"m")
    assert program.verify(public, signature, b"m")


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=30, max_size=34), st.binary(min_size=62, max_size=66), st.binary(max_size=40))
def test_foreign_bytes_are_refused_without_an_exception(key: bytes, signature: bytes, message: bytes) -> None:
    """Whatever the three files hold, as the library judges it."""
    spec = importlib.util.spec_from_file_location("ed25519_verify", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert module.verify(key, signature, message) == library(key, signature, message)


def test_program_ends_with_0_for_the_key_on_paper_only(tmp_path: Path) -> None:
    """Isolated from site-packages, as verify.sh calls it; 15 for anything else."""
    tara, theo = (each.public.keys[0] for each in signed.people("tara", "theo").values())
    secret = signed.people("tomo")["tomo"]
    key = secret.public.keys[0]
    (tmp_path / "k.pem").write_bytes(key.pem)
    (tmp_path / "list").write_bytes(b"digests\n")
    (tmp_path / "sig").write_bytes(secret.sign(key.kind, b"digests\n"))
    (tmp_path / "theo.pem").write_bytes(theo.pem)
    (tmp_path / "p384.pem").write_bytes(secret.public.keys[1].pem)
    (tmp_path / "empty").write_bytes(b"")

    def code(pem: str, signature: str, fingerprint: str) -> int:
        words = [sys.executable, "-I", str(PROGRAM), pem, signature, "list", fingerprint]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=60, check=False).returncode

    assert code("k.pem", "sig", key.fingerprint) == 0
    assert code("k.pem", "sig", tara.fingerprint) == 15
    assert code("theo.pem", "sig", theo.fingerprint) == 15
    assert code("p384.pem", "sig", secret.public.keys[1].fingerprint) == 15
    assert code("k.pem", "empty", key.fingerprint) == 15
    assert code("empty", "sig", key.fingerprint) == 15
