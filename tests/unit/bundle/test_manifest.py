"""The manifest: one form, and every way to say something else in it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.bundle import layout, manifest
from appliance.bundle.refusals import BundleRefused, Exit
from tests.bundles import tiny

A = "a" * 64
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return (tiny(tmp_path_factory.mktemp("manifest") / "bundle") / layout.MANIFEST).read_bytes()


def changed(data: bytes, change: Change) -> bytes:
    document = json.loads(data)
    change(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def tried(data: bytes) -> manifest.Manifest | Exit:
    try:
        return manifest.parse(data)
    except BundleRefused as error:
        return error.exit


def test_what_is_written_is_read_again(good: bytes) -> None:
    """The canonical bytes are the only ones; the control for every change below."""
    assert manifest.dump(manifest.parse(good)) == good
    assert changed(good, lambda _: None) == good


def test_it_lists_every_file_and_every_part(tmp_path: Path) -> None:
    """Digest and bytes of each file by its path, parts of a blob among them."""
    bundle = tiny(tmp_path / "bundle")
    found = manifest.digests(manifest.parse((bundle / layout.MANIFEST).read_bytes()))
    sizes = {path: (bundle / path).stat().st_size for path in found}

    assert {path: size for path, (_, size) in found.items()} == sizes
    assert sum(path.startswith(layout.BLOBS) for path in found) == 3


def put(*keys: str | int, value: object) -> Change:
    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


HOSTILE = [
    "/etc/passwd", "../a", "a/../b", "a/..", "./a", "a//b", "a/", "", ".", "..", "-rf", "a/-b", ".hidden",
    "a/.b", "a b", "a\tb", "a\nb", "a\0b", "a\\b", "C:a", "a:b", "ä", "a" * 241, "a\u202eb", "~/a", "$HOME",
    "a*", "con|x", "a%2e%2e", "<a>", "'a'", '"a"',
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE, ids=ascii)
def test_a_hostile_path_is_refused(path: str, good: bytes) -> None:
    """As a file's and as a licence's."""
    for keys in (("files", 0, "path"), ("blobs", 0, "model", "licence_file")):
        assert tried(changed(good, put(*keys, value=path))) is Exit.BAD_METADATA


@pytest.mark.parametrize(
    "change",
    [
        put("format", value="appliance-bundle/2"),
        put("product", value="other"),
        put("release", value="1.0"),
        put("release", value="1.0.0\n"),
        put("release", value="1.0.0/../../etc"),
        put("release", value="1.0.0" + "a" * 41),
        put("serial", value=0),
        put("serial", value=-1),
        put("serial", value=1 << 41),
        put("serial", value="1"),
        put("serial", value=True),
        put("serial", value=None),
        put("built", value="2026-11-21"),
        put("built", value="2026-11-21T12:00:00+01:00"),
        put("git_commit", value="0" * 39),
        put("git_commit", value="A" * 40),
        put("kind", value="part"),
        put("kind", value="delta"),
        put("delta", value={"base_serials": [1], "omitted": []}),
        put("more", value=1),
        put("files", 0, "more", value=1),
        put("blobs", 0, "model", "more", value=1),
        put("files", 0, "role", value="root"),
        put("files", 0, "size", value=-1),
        put("files", 0, "size", value=1 << 51),
        put("files", 0, "sha256", value=A.upper()),
        put("files", 0, "sha256", value=A + "\n"),
        put("files", 0, "sha256", value=A[1:]),
        put("files", value={}),
        put("blobs", 0, "sha256", value="../" + A[3:]),
        put("blobs", 0, "parts", 0, value=A[1:]),
        put("blobs", 0, "parts", value=[A]),
        put("blobs", 0, "parts", value=[A] * 4),
        put("blobs", 0, "part_size", value=0),
        put("blobs", 0, "part_size", value=1),
        put("blobs", 0, "size", value=4096),
        put("blobs", 0, "model", "licence_file", value="licences/models/other.txt"),
        put("blobs", 0, "name", value="a" * 501),
        put("db", value={}),
        lambda document: document.pop("needs"),
        lambda document: document["files"].append(document["files"][0]),
        lambda document: document["files"].append({**document["files"][0], "path": "readme.TXT"}),
        lambda document: document["blobs"].append(document["blobs"][0]),
        put("files", 0, "path", value="manifest.json"),
        put("files", 0, "path", value="SHA256SUMS"),
        put("files", 0, "path", value="SHA256SUMS.0123456789abcdef.p384.sig"),
        put("files", 0, "path", value="metadata/timestamp.json"),
        put("files", 0, "path", value="app"),
        put("files", 0, "path", value="Wheels"),
        put("files", 0, "path", value="verify.sh/a"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(change: Change, good: bytes) -> None:
    """Unknown words, other types, numbers out of range, and lists that contradict themselves."""
    assert tried(changed(good, change)) is Exit.BAD_METADATA


@pytest.mark.parametrize(
    "form",
    [
        lambda data: data.rstrip(b"\n"),
        lambda data: data + b"\n",
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b'":', b'": ', 1),
        lambda data: data.replace(b'"serial":1', b'"serial":1.0'),
        lambda data: data.replace(b'"serial":1', b'"serial":1e0'),
        lambda data: data.replace(b'"serial":1', b'"serial":NaN'),
        lambda data: data.replace(b'"serial":1', b'"serial":2,"serial":1'),
        lambda data: data.replace(b'"role":"document"', b'"role":"tool","role":"document"', 1),
        lambda data: data.replace(b'"1.0.0"', b'"1\\u002e0.0"'),
        lambda data: json.dumps(json.loads(data), separators=(",", ":"), sort_keys=False)[::-1].encode(),
        lambda data: data[: len(data) // 2],
        lambda _: b"",
        lambda _: b"null\n",
        lambda _: b"[]\n",
        lambda _: b"{}\n",
        lambda _: b"[" * 100_000,
        lambda _: b'{"a":' * 100_000,
        lambda _: b"\xff\xfe",
    ],
)
def test_another_form_of_the_same_is_refused(form: Callable[[bytes], bytes], good: bytes) -> None:
    """One content has one form: what two readers could read differently is not read at all."""
    data = form(good)
    assert data != good
    assert tried(data) is Exit.BAD_METADATA


def test_a_manifest_that_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is checked before the bytes are."""
    monkeypatch.setattr(layout, "MAX_MANIFEST_BYTES", 10)

    with pytest.raises(BundleRefused, match="over 10 bytes"):
        manifest.parse(b"\xff" * 11)


@given(st.binary(max_size=500))
def test_any_bytes_are_a_manifest_or_refused(data: bytes) -> None:
    """Nothing but a refusal comes of bytes that are no manifest."""
    assert tried(data) is Exit.BAD_METADATA


@given(data=st.data())
def test_a_manifest_with_any_value_changed_is_itself_or_refused(data: st.DataObject, good: bytes) -> None:
    """Whatever one key is set to, what is read again is what was written, or nothing is."""
    document = json.loads(good)
    place: Any = document
    while isinstance(place, dict | list) and place:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            break
        place = place[key]
    if isinstance(place, dict | list) and place:
        scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=80)
        place[key] = data.draw(scalars | st.lists(scalars, max_size=3))
    written = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    found = tried(written.encode("utf-8", "surrogatepass") + b"\n")

    assert found is Exit.BAD_METADATA or manifest.dump(found) == written.encode() + b"\n"  # type: ignore[arg-type]


@given(serial=st.integers(min_value=1, max_value=1 << 40), size=st.integers(min_value=0, max_value=1 << 40))
def test_any_manifest_that_can_be_made_is_read(serial: int, size: int, good: bytes) -> None:
    """What the builder writes, every host reads."""
    before = manifest.parse(good)
    parts = tuple([A] * -(-size // before.blobs[0].part_size)) if size < 1 << 20 else ()
    blob = msgspec.structs.replace(before.blobs[0], size=size, parts=parts)
    after = msgspec.structs.replace(before, serial=serial, blobs=(blob,))

    assert manifest.parse(manifest.dump(after)) == after
    assert sum(each for _, each in manifest.digests(after).values()) == size + sum(
        each.size for each in after.files
    )
