"""A digest and a signature that came with a model's files."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from pathlib import Path

import pytest

from appliance.bundle import keys
from appliance.bundle.keys import Kind
from appliance.errors import RequestError
from appliance.importing import papers
from appliance.importing.refusals import FileRefused
from appliance.models.cards import File

ONE = (File("tiny.gguf", "a" * 64, 7),)
TWO = (File("t-00001-of-00002.gguf", "b" * 64, 7), File("t-00002-of-00002.gguf", "c" * 64, 7))


def test_a_digest_is_the_files_or_that_of_their_list() -> None:
    """As sha256sum prints them: what a publisher's page shows for one file, or for all of them."""
    papers.check_digest("A" * 64, "a" * 64, ONE)
    papers.check_digest(
        hashlib.sha256(papers.sums(TWO)).hexdigest(), hashlib.sha256(papers.sums(TWO)).hexdigest(), TWO
    )
    for wrong in ("b" * 64, "c" * 64):
        with pytest.raises(FileRefused) as refused:
            papers.check_digest(wrong, "d" * 64, TWO)
        assert (refused.value.code, refused.value.sha256) == ("model_altered", "d" * 64)
    with pytest.raises(RequestError, match="64 hexadecimal"):
        papers.check_digest("abc", "a" * 64, ONE)


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("encode", [bytes, base64.b64encode, base64.encodebytes])
def test_a_signer_of_bundles_signs_models(kind: Kind, encode: object) -> None:
    """Either of a signer's keys, raw or in base64; the record names the signer and the key."""
    signer, _ = keys.create("models-team")
    assert callable(encode)
    signature = encode(signer.sign(kind, papers.sums(TWO)))
    public = signer.public.key(kind)
    assert public is not None

    found = papers.check_signature(signature, signer.public.text(), "ignored", TWO)
    assert found == f"models-team {public.fingerprint}"
    assert papers.check_signature(signature, public.pem, "team", TWO) == f"team {public.fingerprint}"


def test_another_signature_is_refused() -> None:
    """Of other files, of other names, of another signer, and what is none."""
    signer, _ = keys.create("models-team")
    other, _ = keys.create("somebody")
    renamed = (File("other.gguf", "a" * 64, 7),)
    message = papers.sums(ONE)
    wrong = [
        signer.sign(Kind.ED25519, papers.sums(TWO)),
        signer.sign(Kind.ED25519, papers.sums(renamed)),
        other.sign(Kind.ED25519, message),
        signer.sign(Kind.ED25519, message)[:-1],
        bytes(64),
        b"",
        bytes(5000),
    ]
    for each in wrong:
        with pytest.raises(FileRefused) as refused:
            papers.check_signature(each, signer.public.text(), "", ONE)
        assert refused.value.code == "bad_signature"
    with pytest.raises(RequestError) as unusable:
        papers.check_signature(wrong[0], b"-----BEGIN nothing", "", ONE)
    assert unusable.value.code == "bad_signer"


def test_openssl_and_sha256sum_make_one(tmp_path: Path) -> None:
    """The two commands of the guide, on a machine that has nothing of ours."""
    (tmp_path / "tiny.gguf").write_bytes(b"weights")

    def run(*words: str) -> bytes:
        return subprocess.run(words, cwd=tmp_path, check=True, capture_output=True).stdout

    (tmp_path / "tiny.sums").write_bytes(run("sha256sum", "tiny.gguf"))
    run("openssl", "genpkey", "-algorithm", "ed25519", "-out", "key.pem")
    run("openssl", "pkey", "-in", "key.pem", "-pubout", "-out", "key.pub")
    run("openssl", "pkeyutl", "-sign", "-rawin", "-inkey", "key.pem", "-in", "tiny.sums", "-out", "tiny.sig")

    files = (File("tiny.gguf", hashlib.sha256(b"weights").hexdigest(), 7),)
    signature, public = ((tmp_path / each).read_bytes() for each in ("tiny.sig", "key.pub"))
    assert papers.check_signature(signature, public, "key", files).startswith("key ")
