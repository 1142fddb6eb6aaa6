"""`appliance model import` and `remove`, beside a running gateway and without one."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance import config
from appliance.alone import open_log_alone
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.bundle import keys
from appliance.config import Home
from appliance.core import Role
from appliance.importing import papers
from appliance.models.cards import File
from tests.entered import OWN, person
from tests.ggufs import make
from tests.harness import Gateway, appliance, gateway
from tests.homes import make_home
from tests.hostile import lora, on_medium, split, templates, tensors, tiny, untrue
from tests.records import assert_verified

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("import") / "home") as started:
        yield started


def done(home: Home, *words: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(appliance("model", *words, "--json", home=home).stdout)
    return told


def refused(home: Home, *words: str) -> tuple[int, str]:
    failed = appliance("model", *words, home=home, check=False)
    return failed.returncode, failed.stderr


def known(home: Home) -> set[str]:
    return {each["id"] for each in done(home, "list")["models"]}


def written(home: Home, kind: Kind) -> list[dict[str, Any]]:
    return [dict(each.public) for each in query.search(home.database, kind=kind, limit=100)]


def files_of(home: Home) -> set[str]:
    """What lies in the store, but for the lock."""
    return {
        str(path.relative_to(home.models))
        for path in home.models.rglob("*")
        if path.is_file() and path.name != ".importing"
    }


def test_a_model_comes_in_beside_a_running_gateway_and_leaves(running: Gateway, tmp_path: Path) -> None:
    """Known at once, on the record with its digest, verified like every other; nothing of it stays."""
    home = running.home
    before = files_of(home)
    result = done(home, "import", str(on_medium(tmp_path)), "--origin", "a test's stick")

    assert result["id"] == "tiny"
    assert (result["purpose"], result["licence"], result["notes"]) == ("chat", "Apache-2.0", [])
    assert "tiny" in known(home)
    assert done(home, "verify", "tiny")["verified"]
    (entry,) = [each for each in written(home, Kind.MODEL_IMPORTED) if each["model"] == "tiny"]
    assert (entry["model_sha256"], entry["purpose"], entry["num_parts"]) == (result["sha256"], "chat", 0)
    assert refused(home, "import", str(on_medium(tmp_path)))[0] == 2  # a model of this name is known

    removed = done(home, "remove", "tiny", "--why", "the test is over")
    assert removed["sha256"] == result["sha256"]
    assert "tiny" not in known(home)
    assert files_of(home) == before
    assert [each["model"] for each in written(home, Kind.MODEL_REMOVED)] == ["tiny"]


def test_a_split_model_is_taken_whole(running: Gateway, tmp_path: Path) -> None:
    """All parts under their names, from which llama.cpp finds them; one altered part is found by name."""
    files = split(tmp_path, "parts")
    result = done(running.home, "import", str(files[0]))

    assert result["files"] == [each.name for each in files]
    folder = running.home.models / "split" / result["sha256"]
    assert sorted(each.name for each in folder.iterdir()) == result["files"]
    assert done(running.home, "verify", "parts")["verified"]
    last = folder / result["files"][-1]
    last.chmod(0o600)
    last.write_bytes(last.read_bytes()[:-4] + b"\1\2\3\4")
    code, told = refused(running.home, "verify", "parts")
    assert (code, "sha256" in told) == (1, True)
    done(running.home, "remove", "parts")
    assert not folder.exists()


def test_an_adapter_is_laid_over_its_model_before_it_is_taken(running: Gateway, tmp_path: Path) -> None:
    """It needs a model of its shapes in the store; it answers nothing by itself."""
    (tmp_path / "lora.gguf").write_bytes(lora().data)
    code, told = refused(running.home, "import", str(tmp_path / "lora.gguf"))
    assert (code, "no model of this appliance takes it" in told) == (1, True)
    done(running.home, "import", str(on_medium(tmp_path, "base.gguf", general__name="base")))
    result = done(running.home, "import", str(tmp_path / "lora.gguf"))

    assert (result["purpose"], result["fits"], result["licence"]) == ("adapter", ["base"], "MIT")
    assert done(running.home, "verify", "lora")["verified"]
    assert running.chat("x", model="lora").status_code == 404


def test_what_is_refused_is_on_the_record_and_not_in_the_store(running: Gateway, tmp_path: Path) -> None:
    """Damaged, untrue and hostile files, each with its reason; the list is as it was."""
    home = running.home
    files, names = files_of(home), known(home)
    good = make(tiny(), tensors()).data
    hostile = dict(templates())
    bad = dict(untrue())
    cases: dict[str, bytes | bytearray] = {
        "bad_model": bytes(good[:-1]),
        "bad_tensor": bad["the last weight is nan"],
        "model_does_not_load": bad["without blk.0.attn_q.weight"],
        "hostile_template": make(tiny(tokenizer__chat_template=next(iter(hostile.values()))), tensors()).data,
        "licence_not_accepted": bad["general.license = 'a licence that binds'"],
    }
    for code, data in cases.items():
        file = tmp_path / f"{code}.gguf"
        file.write_bytes(data)
        assert refused(home, "import", str(file), "--origin", "a test")[0] == 1, code

    said = [each["code"] for each in written(home, Kind.MODEL_REFUSED)]
    assert set(cases) <= set(said)
    assert (files_of(home), known(home)) == (files, names)


def test_a_digest_and_a_signature_are_held_against_the_copy(running: Gateway, tmp_path: Path) -> None:
    """Another digest, another signer: refused; the record names who signed."""
    file = on_medium(tmp_path, "signed.gguf", general__name="signed")
    assert refused(running.home, "import", str(file), "--sha256", "0" * 64)[0] == 1
    signer, _ = keys.create("models-team")
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    message = papers.sums([File(file.name, sha256, file.stat().st_size)])
    (tmp_path / "team.pub").write_bytes(signer.public.text())
    (tmp_path / "bad.sig").write_bytes(signer.sign(keys.Kind.P384, message + b"x"))
    (tmp_path / "good.sig").write_bytes(signer.sign(keys.Kind.P384, message))
    words = ("import", str(file), "--signer", str(tmp_path / "team.pub"), "--sha256", sha256, "--signature")
    assert refused(running.home, *words, str(tmp_path / "bad.sig"))[0] == 1

    result = done(running.home, *words, str(tmp_path / "good.sig"))
    assert result["signed_by"].startswith("models-team ")


def test_a_binding_licence_is_accepted_by_a_named_account(tmp_path: Path) -> None:
    """Without a gateway: whoever accepted it, and when, stands in the model's row and on the record."""
    home = make_home(tmp_path / "home")
    file = on_medium(tmp_path, general__license="llama3.1")
    proof = tmp_path / "proof"
    proof.write_text(OWN, encoding="utf-8")
    accept = ("import", str(file), "--accept-licence", "--as", "Ada Kim", "--proof", str(proof))
    assert refused(home, "import", str(file))[0] == 1
    assert refused(home, "import", str(file), "--accept-licence")[0] == 2
    assert refused(home, *accept)[0] == 2
    with open_log_alone(home, config.load(home)) as alone:
        asyncio.run(person(alone, "Ada Kim", Role.OPERATOR))

    assert done(home, *accept)["licence"] == "llama3.1"
    assert "tiny" in known(home)
    assert [each["code"] for each in written(home, Kind.MODEL_REFUSED)] == ["licence_not_accepted"]
    assert_verified(home)
