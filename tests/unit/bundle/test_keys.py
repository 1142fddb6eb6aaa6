"""Signers' keys: files that openssl opens, fingerprints that anybody computes, names that are checked."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from appliance.bundle import keys, pkcs8
from appliance.bundle.keys import Kind
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.errors import RequestError, SetupError
from tests import signed

PASSPHRASE = "four plain words here"


def openssl(*words: str, data: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *words], input=data, capture_output=True, check=True, timeout=60).stdout


def test_secret_file_opens_with_its_passphrase_only() -> None:
    """It comes back with the same keys; another passphrase is a request that can not be met."""
    made, sealed = keys.create("tara")
    data = sealed(PASSPHRASE)

    assert keys.load(data, PASSPHRASE).public == made.public
    with pytest.raises(RequestError, match="does not open"):
        keys.load(data, PASSPHRASE + " ")
    with pytest.raises(RequestError, match="no key file"):
        keys.load(made.public.text(), PASSPHRASE)
    assert [each.kind for each in made.public.keys] == [Kind.ED25519, Kind.P384]


def test_openssl_opens_the_secret_file_and_sees_the_work_factor(tmp_path: Path) -> None:
    """PKCS#8 as everybody reads it, with 600,000 rounds; both keys are in it."""
    made, sealed = keys.create("tara")
    blocks = sealed(PASSPHRASE).split(b"-----BEGIN ")[1:]
    for block, public in zip(blocks, made.public.keys, strict=True):
        pem = b"-----BEGIN " + block
        shown = openssl("asn1parse", data=pem).decode()
        found = openssl("pkey", "-passin", f"pass:{PASSPHRASE}", "-pubout", data=pem)

        assert found == public.pem
        assert f"INTEGER           :{pkcs8.ROUNDS:06X}" in shown
        assert "hmacWithSHA256" in shown
        assert "aes-256-cbc" in shown


def test_fingerprint_is_what_openssl_and_sha256sum_say() -> None:
    """So that nobody needs this program to compare paper with a file."""
    for key in signed.people("tara")["tara"].public.keys:
        der = openssl("pkey", "-pubin", "-outform", "DER", data=key.pem)

        assert key.fingerprint == hashlib.sha256(der).hexdigest()
        assert key.fingerprint.startswith(key.key_id)
        assert keys.fingerprint(keys.on_paper(key.fingerprint).upper()) == key.fingerprint


@pytest.mark.parametrize("text", ["", "ab" * 31, "ab" * 33, "xy" * 32, "ab" * 32 + "\n"])
def test_what_is_no_fingerprint_is_refused(text: str) -> None:
    """A typing error is told, and not taken for a key that did not sign."""
    with pytest.raises(RequestError, match="64 hexadecimal"):
        keys.fingerprint(text)


def test_public_file_is_read_as_it_was_made_and_no_other_way() -> None:
    """11 for a changed comment, a private key, two files in one, or nothing."""
    public = signed.people("tara")["tara"].public
    text = public.text()

    assert keys.load_public(text) == public
    for bad in (
        b"",
        text.replace(b"ed25519: ", b"ed25519: 0", 1),
        text + text,
        text.replace(b"tara", b"Tara"),
    ):
        with pytest.raises(BundleRefused) as refused:
            keys.load_public(bad)
        assert refused.value.exit is Exit.BAD_METADATA


def test_key_file_in_another_form_is_refused() -> None:
    """A PEM file has one form, so that no two programs read two keys out of it."""
    pem = signed.people("tara")["tara"].public.keys[0].pem
    rsa = openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
    p256 = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    others = [openssl("pkey", "-pubout", data=each) for each in (rsa, p256)]

    assert keys.parse(pem).pem == pem
    for bad in (b"note\n" + pem, pem + b"\n", pem.replace(b"\n", b"\r\n"), pem[:-40], *others):
        with pytest.raises(BundleRefused):
            keys.parse(bad)


@pytest.mark.parametrize("name", ["", "Tara", "a b", "../tara", "-x", "a" * 65, "tara\n"])
def test_names_are_file_names(name: str) -> None:
    """A signer's name becomes a file's."""
    with pytest.raises(RequestError):
        keys.create(name)


def test_token_without_its_package_is_told_plainly() -> None:
    """The package for tokens is optional, and not in the lock."""
    with pytest.raises(SetupError, match="python-pkcs11") as error:
        keys.from_token("tara", "hsm:2?label=x", lambda _what: "1234")
    assert "PYKCS11LIB" in error.value.hint
    with pytest.raises(RequestError):
        keys.from_token("tara", "pkcs11:object=x", lambda _what: "1234")


def test_signature_holds_for_its_key_and_message_only() -> None:
    """Both kinds; a cut or empty signature is no signature."""
    tara, theo = signed.people("tara", "theo").values()
    for kind in Kind:
        key, other = tara.public.key(kind), theo.public.key(kind)
        assert key is not None
        assert other is not None
        signature = tara.sign(kind, b"message")

        assert key.verify(signature, b"message")
        assert not key.verify(signature, b"messagf")
        assert not other.verify(signature, b"message")
        assert not key.verify(signature[:-1], b"message")
        assert not key.verify(signature + b"\0", b"message")
        assert not key.verify(b"", b"message")
