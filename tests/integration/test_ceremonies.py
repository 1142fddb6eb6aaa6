"""Acts of several people, as they are done: files that go from machine to machine, a gateway that runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from tests.harness import Gateway, appliance, gateway, question
from tests.records import assert_verified

pytestmark = pytest.mark.integration


def ask(running: Gateway, text: str, **extra: str) -> str:
    """One answered question; its request id."""
    with running.client() as client:
        answer = client.post("/v1/chat/completions", json={**question(f"echo: {text}"), **extra})
    assert answer.status_code == 200
    return answer.headers["x-request-id"]


def identity(where: Path, name: str) -> str:
    appliance("auditor", "keygen", name, "--out", str(where))
    return str(where / f"{name}.identity")


def approve(running: Gateway, act: Path, *identities: str) -> None:
    """Signed by each on their own machine, carried out on the appliance."""
    for each in identities:
        appliance("auditor", "sign", str(act), "--identity", each)
    appliance("auditor", "apply", str(act), home=running.home)


def shown(running: Gateway, target: str, *options: str) -> str:
    return appliance("audit", "show", target, *options, home=running.home).stdout


def test_erasure_reaches_every_copy(tmp_path: Path) -> None:
    """Two people agree; what one person was told is gone for good, from a copy made before too."""
    with gateway(tmp_path / "home") as running:
        dev = str(running.home.keys / "dev-auditor.identity")
        paul = identity(tmp_path, "paul")
        add, act = tmp_path / "add.act", tmp_path / "erase.act"
        appliance("auditor", "add", str(tmp_path / "paul.recipient"), "--role", "privacy", "--out", str(add),
                  home=running.home)  # fmt: skip
        approve(running, add, dev)
        doomed = ask(running, "canary-doomed", user="citizen-17")
        kept = ask(running, "canary-kept", user="citizen-18")
        assert "canary-doomed" in shown(running, doomed)
        release = tmp_path / "both.release"
        appliance("audit", "release", doomed, kept, "--purpose", "a case", "--out", str(release),
                  home=running.home)  # fmt: skip
        released = json.loads(release.read_text())["shares"]

        appliance("audit", "erase", "--user", "citizen-17", "--reason", "asked on 3 May",
                  "--basis", "GDPR Art. 17(1)(b)", "--out", str(act), home=running.home)  # fmt: skip
        refused = appliance("auditor", "apply", str(act), home=running.home, check=False)
        assert (refused.returncode, "0 valid signatures" in refused.stderr) == (1, True)
        approve(running, act, paul, dev)

        after = shown(running, doomed)
        assert "canary-doomed" not in after
        assert "content: erased, entry" in after
        assert "canary-kept" in shown(running, kept)
        (entry,) = query.search(running.home.database, kind=Kind.CONTENT_ERASED)
        assert "citizen-17" not in json.dumps(entry.public)
        again = appliance("auditor", "apply", str(act), home=running.home, check=False)
        assert (again.returncode, "nothing of this subject" in again.stderr) == (2, True)
        assert_verified(running.home)
    held = b"".join(path.read_bytes() for path in running.home.root.glob("**/*") if path.is_file())
    assert len(released) == 2
    assert all(bytes.fromhex(each) not in held for each in released.values())


def test_copy_is_read_with_a_release_and_an_identity(tmp_path: Path) -> None:
    """On another machine: half of the key from the appliance, half from the auditor, neither enough."""
    with gateway(tmp_path / "home") as running:
        request_id = ask(running, "canary-elsewhere")
        release = tmp_path / "case.release"
        appliance("audit", "release", request_id, "--purpose", "a case", "--out", str(release),
                  home=running.home)  # fmt: skip
        (entry,) = query.search(running.home.database, kind=Kind.AUDIT_RELEASED)
        dev = tmp_path / "dev.identity"
        shutil.copy(running.home.keys / "dev-auditor.identity", dev)
    copy = tmp_path / "copy.db"
    shutil.copy(running.home.database, copy)
    base = ("audit", "show", request_id, "--database", str(copy), "--identity", str(dev))
    without = appliance(*base, home=running.home, check=False)
    told = appliance(*base, "--release", str(release), home=running.home).stdout

    assert entry.public["num_shares"] == 1
    assert (without.returncode, "half of each record" in without.stderr) == (3, True)
    assert "canary-elsewhere" in told
    release.write_text('{"shares": 3}')
    broken = appliance(*base, "--release", str(release), home=running.home, check=False)
    assert (broken.returncode, "not a release" in broken.stderr) == (2, True)


def test_new_reader_reads_what_comes_after(tmp_path: Path) -> None:
    """A quorum adds a reader; a policy that an operator made alone is refused; removal ends reading."""
    with gateway(tmp_path / "home") as running:
        dev = str(running.home.keys / "dev-auditor.identity")
        bob = identity(tmp_path, "bob")
        act = tmp_path / "bob.act"
        before = ask(running, "canary-before")
        appliance("auditor", "add", str(tmp_path / "bob.recipient"), "--out", str(act), home=running.home)
        forged = tmp_path / "forged.act"
        shutil.copy(act, forged)
        appliance("auditor", "sign", str(forged), "--identity", bob)
        refused = appliance("auditor", "apply", str(forged), home=running.home, check=False)
        assert (refused.returncode, "valid signatures" in refused.stderr) == (1, True)
        approve(running, act, dev)
        between = ask(running, "canary-between")

        assert "canary-between" in shown(running, between, "--identity", bob)
        stranger = appliance("audit", "show", before, "--identity", bob, home=running.home, check=False)
        assert (stranger.returncode, "not a recipient" in stranger.stderr) == (1, True)
        assert "bob" in appliance("auditor", "list", home=running.home).stdout

        gone = tmp_path / "gone.act"
        appliance("auditor", "remove", "bob", "--out", str(gone), home=running.home)
        approve(running, gone, dev, bob)  # the policy in force names two auditors: its quorum is both
        after = ask(running, "canary-after")
        closed = appliance("audit", "show", after, "--identity", bob, home=running.home, check=False)
        assert closed.returncode == 1
        assert "canary-after" in shown(running, after)
        assert_verified(running.home)


def test_two_readers_together(tmp_path: Path) -> None:
    """With 2-of-n nobody reads alone: two identities open, one does not."""
    with gateway(tmp_path / "home") as running:
        dev = str(running.home.keys / "dev-auditor.identity")
        bob = identity(tmp_path, "bob")
        act = tmp_path / "bob.act"
        appliance("auditor", "add", str(tmp_path / "bob.recipient"), "--reading", "2-of-n", "--out", str(act),
                  home=running.home)  # fmt: skip
        approve(running, act, dev)
        request_id = ask(running, "canary-two")
        alone = appliance("audit", "show", request_id, "--identity", bob, home=running.home, check=False)
        assert (alone.returncode, "give both identities" in alone.stderr) == (1, True)
        assert "canary-two" in shown(running, request_id, "--identity", bob, "--identity", dev)
