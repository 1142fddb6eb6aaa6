"""The guide to signing, from the ceremony to a refresh, with its own commands as they stand."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from appliance.bundle import keys, layout, manifest, signing, trusted, verifying
from appliance.bundle.layout import Site
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.cli import bundle as group
from appliance.clock import SystemClock
from appliance.errors import ApplianceError, RequestError
from tests import bundles, signed

GUIDE = (signed.DEPLOY / "guides/signing.md").read_text()
FAR_DAYS = 2900  # the program asks the real clock
PASSPHRASE = "four plain words here"
Run = Callable[[str], str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs one `appliance bundle …` line in a folder of its own; an error of ours is raised."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words").write_text(PASSPHRASE + "\n")

    def one(line: str) -> str:
        words = shlex.split(line, comments=True)[2:]
        if any(word in words for word in ("create", "--key")):
            words += ["--passphrase-file", "words"]
        if words[0] in {"verify", "receipts"}:
            words += ["--root", "host"]
        done = CliRunner().invoke(group.bundle, words)
        if isinstance(done.exception, ApplianceError):
            raise done.exception
        assert done.exit_code == 0, (line, done.output, done.exception)
        return done.output

    return one


def lines(section: str) -> list[str]:
    """The commands of a section of the guide."""
    text = GUIDE.split(f"## {section}")[1].split("\n## ")[0]
    blocks = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    return [line for line in blocks.splitlines() if line]


def as_json(run: Run, line: str) -> Any:
    return json.loads(run(f"{line} --json"))


def test_guide_works_from_the_ceremony_to_the_refresh(run: Run, tmp_path: Path) -> None:
    """Every command, in order; then a bare host believes the result by the fingerprints that were shown."""
    for line in lines("The ceremony, once"):
        run(line)
    an_hour_ago = manifest.moment(SystemClock().now_us() - 3_600_000_000)
    bundles.tiny(tmp_path / "appliance-2.4.0", serial=37, built=an_hour_ago)
    for line in lines("Signing a bundle"):
        run(line)
    shown = as_json(run, "appliance bundle keys show roots")
    prints = [each["fingerprints"]["ed25519"] for each in shown["targets"]["signers"]]
    assert (shown["number"], shown["in_force"], shown["targets"]["threshold"]) == (1, True, 2)
    paper = f"--fingerprint {prints[0]} --fingerprint {prints[1]}"
    first = as_json(run, f"appliance bundle verify appliance-2.4.0 --receipt {paper}")
    assert first["signers"] == ["tara", "theo"]

    for line in lines("When somebody leaves, or a key is lost"):
        run(line)
    assert as_json(run, "appliance bundle keys show roots")["number"] == 2
    for line in lines("Before a bundle ends, and taking one back"):
        if "verify" not in line:
            run(line)
    second = as_json(run, f"appliance bundle verify appliance-2.4.0 --refresh refresh-2.4.0 {paper}")

    assert second["signers"] == ["tara", "tomo"]
    assert second["sums_sha256"] == first["sums_sha256"]
    listed = as_json(run, "appliance bundle receipts")
    assert [(each["what"], each["is_good"]) for each in listed["receipts"]] == [("verified", True)]
    assert "verified" in run("appliance bundle receipts")
    assert all(command in GUIDE for command in ("keys create", "keys ceremony", "keys rotate", "keys show"))


def test_host_takes_a_refresh_and_tells_what_was_taken_back(run: Run, tmp_path: Path) -> None:
    """`verify --refresh` alone moves what the host remembers; a bare host remembers nothing yet."""
    office = signed.office(tmp_path / "roots")
    bundle = signed.bundle(tmp_path / "b", office, 5, days=FAR_DAYS)
    run("appliance bundle refresh b --roots roots --revoke 4 --days 1000 --out later")
    for key in office.some:
        signing.sign(tmp_path / "later", key)
    with pytest.raises(BundleRefused) as refused:
        run("appliance bundle verify --refresh later")
    assert refused.value.exit is Exit.BAD_SIGNATURE
    with pytest.raises(RequestError, match="name a bundle's folder"):
        run("appliance bundle verify")

    site = Site(tmp_path / "host")
    found = verifying.verify(bundle, site, SystemClock(), fingerprints=office.prints())
    trusted.accept(site, found, SystemClock().now_us())
    taken = as_json(run, "appliance bundle verify --refresh later")
    assert (taken["serial"], taken["revoked"], taken["root"]) == (5, [4], 1)
    assert "taken back: 4" in run("appliance bundle verify --refresh later")
    assert as_json(run, "appliance bundle verify b")["expires"] == taken["expires"]


def test_receipt_that_was_edited_ends_with_15(run: Run, tmp_path: Path) -> None:
    """After it was shown which one."""
    office = signed.office(tmp_path / "roots")
    signed.bundle(tmp_path / "b", office, 5, days=FAR_DAYS)
    prints = " ".join(f"--fingerprint {each}" for each in office.prints())
    run(f"appliance bundle verify b --receipt {prints}")
    (path,) = Site(tmp_path / "host").receipts.iterdir()
    path.write_bytes(path.read_bytes().replace(b'"serial":5', b'"serial":6'))

    with pytest.raises(BundleRefused) as refused:
        run("appliance bundle receipts")
    assert refused.value.exit is Exit.BAD_SIGNATURE


def test_passphrase_is_typed_twice_and_long_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written for a short one; what is typed is not shown."""
    monkeypatch.chdir(tmp_path)
    short = CliRunner().invoke(group.bundle, ["keys", "create", "tara"], input="short\nshort\n")
    assert isinstance(short.exception, RequestError)
    assert list(tmp_path.iterdir()) == []

    done = CliRunner().invoke(group.bundle, ["keys", "create", "tara"], input=f"{PASSPHRASE}\n{PASSPHRASE}\n")
    assert done.exit_code == 0
    assert PASSPHRASE not in done.output
    assert (tmp_path / "tara.signer").stat().st_mode & 0o777 == 0o600
    made = keys.load((tmp_path / "tara.signer").read_bytes(), PASSPHRASE)
    assert made.public == keys.load_public((tmp_path / "tara.pub").read_bytes())
    again = CliRunner().invoke(
        group.bundle, ["keys", "create", "tara"], input=f"{PASSPHRASE}\n{PASSPHRASE}\n"
    )
    assert isinstance(again.exception, RequestError)


def test_signing_wants_exactly_one_key(run: Run, tmp_path: Path) -> None:
    """A file or a token; serials are revoked only where a list begins."""
    office = signed.office(tmp_path / "roots")
    signed.bundle(tmp_path / "b", office, 5, days=FAR_DAYS)
    for line in ("appliance bundle sign b --roots roots", "appliance bundle sign b --roots roots --revoke 3"):
        with pytest.raises(RequestError):
            run(line)
    assert "signed by: tara, theo" in run("appliance bundle sign b --roots roots --gather b")
    begun = run("appliance bundle sign b --begin --roots roots --revoke 3 --revoke 4")

    assert "signed by: nobody yet" in begun
    document = json.loads((tmp_path / "b/metadata/5000.targets.json").read_bytes())
    assert document["signed"]["targets"][layout.MANIFEST]["custom"]["revoked"] == [3, 4]


def test_every_command_is_a_command_of_the_group() -> None:
    """The control of the guide's test: it names what there is."""
    found = group.bundle.commands["keys"]
    assert isinstance(found, click.Group)
    assert {"create", "ceremony", "rotate", "sign", "show"} <= found.commands.keys()
