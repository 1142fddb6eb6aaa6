"""The parsers of foreign bytes: a value or a VerificationError, nothing else; one value has one form."""

from __future__ import annotations

import contextlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit import checkpoint, cosignature, merkle, proof, tiles
from appliance.audit.checkpoint import Checkpoint, Signer, Verifier
from appliance.audit.cosignature import Cosigner
from appliance.audit.merkle import Frontier, leaf_hash
from appliance.audit.proof import Proof
from appliance.audit.tiles import Tile
from appliance.errors import VerificationError

ORIGIN = "box.example/audit/1"
ED25519 = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
LOG = Signer(ORIGIN, ED25519)
P256 = Signer(ORIGIN, ec.derive_private_key(7, ec.SECP256R1()))
WITNESSES = [
    Cosigner("w1.example", Ed25519PrivateKey.from_private_bytes(bytes(32))),
    Cosigner("w2.example", MLDSA44PrivateKey.from_seed_bytes(bytes(32))),
]
HEAD = Checkpoint(ORIGIN, 3, bytes(range(32)))
NOTE = LOG.sign(HEAD.text())
PROOF = Proof(1, (bytes(32), bytes(range(32))), NOTE, b"extra").encode()


def mutations(data: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with a few places changed, dropped or repeated; or any bytes at all."""

    def mutate(draw: tuple[int, int, bytes]) -> bytes:
        start, length, replacement = draw
        return data[:start] + replacement + data[start + length :]

    return st.binary(max_size=300) | st.tuples(
        st.integers(0, len(data)), st.integers(0, 4), st.binary(max_size=4)
    ).map(mutate)


@given(mutations(PROOF))
def test_proofs(data: bytes) -> None:
    """What is read as a tlog-proof is written as the same bytes."""
    with contextlib.suppress(VerificationError):
        assert proof.parse(data).encode() == data


@given(st.text(max_size=200) | mutations(NOTE.encode()).map(lambda data: data.decode(errors="replace")))
def test_notes(note: str) -> None:
    """A note reads, and is then made of its parts; or it is refused."""
    with contextlib.suppress(VerificationError):
        found = checkpoint.read_note(note)
        assert found.text + "\n" + "".join(f"{each.line}\n" for each in found.signatures) == note
        assert checkpoint.parse(found.text).text() == found.text


@given(st.characters(categories=["Cs"]))
def test_lone_surrogates_are_refused(character: str) -> None:
    """What is no UTF-8 is no note."""
    with pytest.raises(VerificationError, match="UTF-8"):
        checkpoint.read_note(character + NOTE)


VKEYS = [LOG.verifier, P256.verifier, *(each.verifier for each in WITNESSES)]


@pytest.mark.parametrize("verifier", VKEYS, ids=lambda each: each.algorithm.name)
@given(st.data())
def test_vkeys(verifier: Verifier, data: st.DataObject) -> None:
    """Every kind of key has one text, and no other text is that key."""
    assert Verifier.parse(verifier.text()) == verifier
    text = data.draw(mutations(verifier.text().encode())).decode(errors="replace")
    with contextlib.suppress(VerificationError):
        assert Verifier.parse(text).text() == text


def test_bundles_hold_entries_behind_their_lengths() -> None:
    """C2SP tlog-tiles: 16 bits, big-endian, then the entry; only tiles that lie wholly in the range."""
    assert tiles.encode_entries([b"one", b"", bytes(300)]) == b"\0\3one\0\0\1\x2c" + bytes(300)
    assert tiles.bundles_of_range(700, 1, 700) == [Tile(0, 1), Tile(0, 2, 188)]
    assert tiles.bundles_of_range(700, 0, 699) == [Tile(0, 0), Tile(0, 1)]


def test_the_specification_s_own_note() -> None:
    """C2SP signed-note: the example at its end."""
    vkey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    note = (
        "This is an example message.\n\n"
        "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Z"
        "tg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
    )

    assert checkpoint.open_note(note, Verifier.parse(vkey)) == "This is an example message.\n"
    with pytest.raises(VerificationError):
        checkpoint.open_note(note.replace("an", "no"), Verifier.parse(vkey))


def test_many_signers() -> None:
    """Two log keys, two witnesses and sixteen strangers sign one note; each is heard, or ignored."""
    text = HEAD.text()
    strangers = [Signer(f"s{n}.example", Ed25519PrivateKey.generate()) for n in range(16)]
    note = LOG.sign(text) + "".join(each.line(text) for each in [P256, *strangers])
    note += "".join(each.cosign(text, 1_700_000_000) for each in WITNESSES)

    assert checkpoint.open_checkpoint(note, LOG.verifier, P256.verifier) == HEAD
    said = cosignature.verified(note, [each.verifier for each in WITNESSES])
    assert [(each.witness.name, each.time) for each in said] == [
        ("w1.example", 1_700_000_000),
        ("w2.example", 1_700_000_000),
    ]
    with pytest.raises(VerificationError, match="expected key"):
        checkpoint.open_note(LOG.sign(text), LOG.verifier, P256.verifier)


@pytest.mark.parametrize("witness", WITNESSES, ids=["ed25519", "ml-dsa-44"])
def test_a_changed_cosignature_is_refused(witness: Cosigner) -> None:
    """Time, signature, text: what a known witness did not say fails the note; a stranger's is ignored."""
    text = HEAD.text()
    line = witness.cosign(text, 1_700_000_000)
    signature = checkpoint.read_signature(line[:-1])
    for at in (3, 8, len(signature.data) - 1):
        data = bytearray(signature.data)
        data[at] ^= 1
        changed = checkpoint.signature_line(witness.verifier, bytes(data))
        with pytest.raises(VerificationError):
            cosignature.verified(NOTE + changed, [witness.verifier])
    other = Checkpoint(ORIGIN, 4, HEAD.root).text()
    with pytest.raises(VerificationError, match="not valid"):
        cosignature.verified(LOG.sign(other) + line, [witness.verifier])
    stranger = Cosigner(witness.verifier.name, Ed25519PrivateKey.generate())
    assert cosignature.verified(NOTE + stranger.cosign(text, 1), [witness.verifier]) == []
    with pytest.raises(ValueError, match="POSIX"):
        witness.cosign(text, 0)


def test_the_specification_s_example_of_a_cosigned_message() -> None:
    """C2SP tlog-cosignature: header, time, note text; nothing before, between or behind."""
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    line = Cosigner("w.example", ED25519).cosign(text, 1679315147)
    data = checkpoint.read_signature(line[:-1]).data

    ED25519.public_key().verify(data[8:], b"cosignature/v1\ntime 1679315147\n" + text.encode())


class Grown:
    """A tree of some size, with its entries."""

    def __init__(self, size: int) -> None:
        self.entries = [f"entry {number}".encode() for number in range(size)]
        self.nodes: dict[tuple[int, int], bytes] = {}
        frontier = Frontier()
        for entry in self.entries:
            self.nodes |= {(node.level, node.index): node.hash for node in frontier.append(leaf_hash(entry))}
        self.root = frontier.root()

    def read(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]

    def tiles(self, begin: int, end: int) -> dict[Tile, bytes]:
        wanted = tiles.tiles_of_range(len(self.entries), begin, end)
        return {tile: tiles.encode(tile, self.read) for tile in wanted}


GROWN = {size: Grown(size) for size in (0, 1, 255, 256, 257, 700, 1024)}


@given(st.sampled_from(sorted(GROWN)), st.data())
def test_a_range_is_complete_and_unchanged(size: int, data: st.DataObject) -> None:
    """The tiles prove every entry of a range; a changed, missing or moved one is refused."""
    tree = GROWN[size]
    begin = data.draw(st.integers(0, size))
    end = data.draw(st.integers(begin, size))
    entries, found = tree.entries[begin:end], tree.tiles(begin, end)

    tiles.check(size, tree.root, found, begin, entries)
    if begin < end:
        with pytest.raises(VerificationError):
            tiles.check(size, tree.root, found, begin, [b"other", *entries[1:]])
    if begin + 1 < end:
        with pytest.raises(VerificationError):
            tiles.check(size, tree.root, found, begin, entries[::-1])
    for tile in found:
        broken = bytearray(found[tile])
        broken[data.draw(st.integers(0, len(broken) - 1))] ^= 1
        with pytest.raises(VerificationError):
            tiles.check(size, tree.root, found | {tile: bytes(broken)}, begin, entries)
        with pytest.raises(VerificationError):
            tiles.check(size, tree.root, {k: v for k, v in found.items() if k != tile}, begin, entries)


def test_paths_and_widths_are_those_of_the_specification() -> None:
    """C2SP tlog-tiles: index 1234067, and a tree of 70,000."""
    assert Tile(0, 1_234_067).path == "tile/0/x001/x234/067"
    assert Tile(1, 0, 1).path == "tile/1/000.p/1"
    assert Tile(0, 273, 112).entries_path == "tile/entries/273.p/112"
    made = [list(tiles.tiles_of(70_000, level)) for level in range(tiles.num_levels(70_000))]
    assert [len(level) for level in made] == [274, 2, 1]
    assert [level[-1].width for level in made] == [112, 17, 1]
    assert [tiles.num_levels(size) for size in (0, 1, 255, 256, 65_535, 65_536)] == [0, 1, 1, 2, 2, 3]


def test_a_proof_proves_its_own_entry_only() -> None:
    """tlog-proof: made, written, read and verified; another leaf or index fails."""
    tree = GROWN[257]
    note = LOG.sign(Checkpoint(ORIGIN, 257, tree.root).text())
    made = Proof(256, tuple(merkle.inclusion_proof(256, 257, tree.read)), note)
    read = proof.parse(made.encode())

    assert read == made
    assert proof.verify(read, leaf_hash(tree.entries[256]), LOG.verifier).size == 257
    with pytest.raises(VerificationError, match="does not lead"):
        proof.verify(read, leaf_hash(tree.entries[255]), LOG.verifier)
    with pytest.raises(VerificationError, match="expected key"):
        proof.verify(read, leaf_hash(tree.entries[256]), WITNESSES[0].verifier)
