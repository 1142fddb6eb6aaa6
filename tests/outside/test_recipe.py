"""The recipe in every export, run in an empty folder by programs that this project did not write.

They are put into a folder of their own and nothing else is on the PATH: sh, sed, coreutils, xxd, openssl.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.audit import archive, casefile, evidence
from appliance.audit.redaction import Part, Redaction
from tests.cases import AUDITOR, CALLER, WHY, Place, exchange, make_place
from tests.needed import need

PROGRAMS = (
    "sh", "sed", "openssl", "xxd", "base64", "cat", "comm", "cut", "du", "head", "mkdir", "mktemp", "mv",
    "paste", "rm", "sha256sum", "sort", "split", "tail", "truncate", "wc",
)  # fmt: skip
FORMS = ("sealed", "opened", "elsewhere", "redacted", "redacted elsewhere", "range", "end of the range")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, dict[str, dict[str, bytes]]]:
    """A log of random size beyond one tile, and each form of export."""
    box = make_place(tmp_path_factory.mktemp("recipe") / "home")
    return box, asyncio.run(_exports(box))


async def _exports(box: Place) -> dict[str, dict[str, bytes]]:
    redact = Redaction(frozenset({Part.WHO, Part.ADDRESS}), ("blue",), "privacy")
    with box.open() as alone:
        seqs = exchange(
            alone, "req_0", "what colour is the sky? \u2014 \u00fcn\u00efcode", ["It is ", "blue."]
        )
        for number in range(1, 100 + random.randrange(80)):
            exchange(alone, f"req_{number}", "q", ["a"])
        exporting, reader = alone.exporting, box.readers[:1]
        sealed = await exporting.export(AUDITOR, CALLER, WHY, seqs=seqs)
        opened = await exporting.export(AUDITOR, CALLER, WHY, seqs=seqs, identities=reader)
        redacted = await exporting.export(AUDITOR, CALLER, WHY, seqs=seqs, identities=reader, redact=redact)
        size = alone.audit.tree_size
        spans = [(3, 280), (size - 5, size)]
        ranges = [
            await exporting.export_range(AUDITOR, CALLER, WHY, begin=begin, end=end) for begin, end in spans
        ]
        ranged = [archive.unpack(b"".join(each.zipped())) for each in ranges]
    unsealed = casefile.open_case(sealed.files, box.log, reader)
    forms = [
        dict(sealed.files),
        dict(opened.files),
        casefile.disclosed(sealed.files, unsealed),
        dict(redacted.files),
        casefile.redacted(sealed.files, unsealed, redact, reader),
        *ranged,
    ]
    return dict(zip(FORMS, forms, strict=True))


@pytest.fixture
def verify(tmp_path: Path) -> Callable[..., str]:
    """Runs `sh verify.sh …` over files in an empty folder; what it printed, empty where it refused."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in PROGRAMS:
        need(name, package=name)
        (programs / name).symlink_to(str(shutil.which(name)))

    def run(files: dict[str, bytes], *arguments: str) -> str:
        folder = tmp_path / "case"
        shutil.rmtree(folder, ignore_errors=True)
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        done = subprocess.run(
            ["sh", "verify.sh", *arguments],
            cwd=folder,
            env={"PATH": str(programs), "TMPDIR": str(tmp_path)},
            capture_output=True,
            check=False,
            timeout=100,
        )
        assert done.returncode in {0, 1}, done.stderr
        assert (done.returncode == 0) or b"refused:" in done.stderr, done.stderr
        assert b"not found" not in done.stderr
        return done.stdout.decode() if done.returncode == 0 else ""

    return run


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_checked_whole(
    made: tuple[Place, dict[str, dict[str, bytes]]], verify: Callable[..., str], form: str
) -> None:
    """Everything holds under the log's key, and nothing under another's."""
    box, exports = made
    told = verify(exports[form], box.log.text())
    num_records = len(
        [name for name in exports[form] if name.startswith("record-") and name.endswith("-proof")]
    )

    assert told.count("ok: entry") >= num_records
    assert ("ok: headers.jsonl is every entry" in told) is ("range" in form)
    assert told.count("is the content of that entry") == (3 if form in {"opened", "elsewhere"} else 0)
    assert told.count("vouched for and not proved") == (3 if "redacted" in form else 0)
    stranger = make_place(box.home.root.parent / f"other-{form}").log.text()
    assert verify(exports[form], stranger) == ""


@pytest.mark.parametrize("form", FORMS)
def test_no_change_is_accepted(
    made: tuple[Place, dict[str, dict[str, bytes]]], verify: Callable[..., str], form: str
) -> None:
    """A flipped bit in any kind of file, a file more and a file less."""
    box, exports = made
    files = exports[form]
    chosen = [name for name in sorted(files) if name not in {"verify.sh", "SHA256SUMS.auditors"}]
    for name in random.sample(chosen, min(8, len(chosen))):
        data = files[name]
        for changed in (
            {**files, name: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]} if len(data) > 9 else {},
            {each: other for each, other in files.items() if each != name},
        ):
            assert "verify.sh" not in changed or verify(changed, box.log.text()) == "", name
    assert verify({**files, "another": b"x"}, box.log.text()) == ""


def test_what_is_proved_is_checked_and_not_only_listed(
    made: tuple[Place, dict[str, dict[str, bytes]]], verify: Callable[..., str]
) -> None:
    """A content or a key that was changed together with the unsigned list: refused by what it must prove."""
    box, exports = made
    files = exports["elsewhere"]
    stem = next(name for name in files if name.endswith(".plain.json")).removesuffix(".plain.json")
    for name, old, new in (
        (f"{stem}.plain.json", b"colour", b"colors"),
        (f"{stem}.key", files[f"{stem}.key"][-20:-12], b"00000000"),
    ):
        assert old in files[name]
        changed = {**files, name: files[name].replace(old, new)}
        changed.pop("SHA256SUMS")
        assert verify(evidence.listed(changed), box.log.text()) == ""
