"""The process in which a file is tried: whatever becomes of it, the answer is a value."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from appliance.engine.inspection import Inspect, Sound
from appliance.importing import trial
from appliance.importing.refusals import FileRefused
from tests.ggufs import make
from tests.hostile import N_VOCAB, TEMPLATE, tensors, tiny
from tests.needed import missing

ASKED = Inspect(folder="/nowhere", path="/nowhere/x.gguf", purpose="chat", files=())


def of(code: str) -> tuple[str, ...]:
    """A process that runs this instead."""
    return (sys.executable, "-c", code)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import os; os.write(2, b'GGML_ASSERT(x) failed\\n\\x1b[2J'); os.abort()",
         "llama.cpp ends over it: SIGABRT; GGML_ASSERT(x) failed"),
        ("import ctypes; ctypes.string_at(0)", "llama.cpp ends over it: SIGSEGV"),
        ("raise SystemExit(3)", "llama.cpp ends over it: exit code 3; it said nothing"),
        ("import socket, sys; socket.socket(fileno=int(sys.argv[2])).send(b'\\xff' * 99)", "ends over it"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", "ends over it: SIGXCPU"),
    ],
)  # fmt: skip
def test_a_process_that_ends_is_a_refusal(code: str, expected: str) -> None:
    """With how it ended and its last words, in which nothing steers a terminal."""
    with pytest.raises(FileRefused) as refused:
        trial.run(ASKED, 0, of(code))

    assert refused.value.code == "model_crashes"
    assert expected in refused.value.message
    assert refused.value.message.isprintable()


def test_a_process_that_takes_for_ever_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has so long for so many bytes, and is gone behind that."""
    monkeypatch.setattr(trial, "_BASE_SECONDS", 1)
    monkeypatch.setattr(trial, "_END_SECONDS", 0.1)
    with pytest.raises(FileRefused) as refused:
        trial.run(ASKED, 0, of("import time; time.sleep(600)"))

    assert refused.value.code == "model_takes_too_long"


def asked(place: Path, **changes: object) -> Inspect:
    """The tiny model, as the import asks for it."""
    file = place / "tiny.gguf"
    file.write_bytes(make(tiny(), tensors()).data)
    fields = {
        "folder": str(place),
        "path": str(file),
        "purpose": "chat",
        "files": (str(file),),
        "templates": (("tokenizer.chat_template", TEMPLATE),),
        "num_tokens": N_VOCAB,
        "memory_bytes": trial.MEMORY_BYTES,
        "sandbox": "available",
    }
    return Inspect(**fields | changes)  # type: ignore[arg-type]


def test_a_good_model_is_sound_behind_every_wall_that_this_host_has(tmp_path: Path) -> None:
    """The same layers as around a worker hold around what is tried."""
    found = trial.run(asked(tmp_path), 0)

    assert isinstance(found, Sound)
    assert found.n_params == sum(
        each.shape[0] * (each.shape[1] if len(each.shape) > 1 else 1) for each in tensors()
    )
    assert {"limits", "no_new_privileges"} <= set(found.sandbox)


def test_too_much_memory_is_a_refusal(tmp_path: Path) -> None:
    """The bound is the process's own: nobody else's memory is taken."""
    with pytest.raises(FileRefused) as refused:
        trial.run(asked(tmp_path, memory_bytes=60 << 20), 0)

    assert refused.value.code in {"model_crashes", "model_takes_too_much", "model_does_not_load"}


def test_a_file_outside_of_its_folder_can_not_be_read(tmp_path: Path) -> None:
    """Where the kernel has Landlock: a model that refers elsewhere finds nothing there."""
    (tmp_path / "inside").mkdir()
    with_all = asked(tmp_path)
    found = trial.run(with_all, 0)
    if not any(each.startswith("landlock") for each in found.sandbox):
        missing("this kernel has no Landlock")
    with pytest.raises(FileRefused) as refused:
        trial.run(asked(tmp_path, folder=str(tmp_path / "inside")), 0)

    assert refused.value.code == "model_does_not_load"
