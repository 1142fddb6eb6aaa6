"""The catalogue and the store: what is pinned is what runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from appliance import catalog
from appliance.catalog import Catalog
from appliance.config import Home
from appliance.errors import SetupError, VerificationError

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def model_toml(name: str = "tiny", **changes: object) -> str:
    fields: dict[str, object] = {
        "id": name,
        "file": "tiny.gguf",
        "sha256": DIGEST,
        "size_bytes": len(CONTENT),
        "licence": "Apache-2.0",
        "n_ctx": 512,
    }
    lines = [f"{key} = {value!r}" for key, value in (fields | changes).items()]
    return "\n".join([*lines, "[source]", "package = 'p'", "version = '1'", "member = 'm'"])


@pytest.fixture
def one(tmp_path: Path) -> tuple[Catalog, Path]:
    directory = tmp_path / "models"
    directory.mkdir()
    (directory / "tiny.toml").write_text(model_toml())
    source = tmp_path / "tiny.gguf"
    source.write_bytes(CONTENT)
    return Catalog.load(home=Home(root=tmp_path / "home"), default_model="tiny", directory=directory), source


def test_names_and_aliases_resolve(one: tuple[Catalog, Path]) -> None:
    """A model is found by its id and, as the default, by `default`."""
    found, _ = one
    assert found.resolve("tiny") is found.resolve("default") is found.list()[0]
    assert found.resolve("other") is None


def test_store_keeps_by_content_and_verifies(one: tuple[Catalog, Path]) -> None:
    """What was put verifies; missing, cut and altered files are refused by what differs."""
    found, source = one
    spec = found.list()[0]
    with pytest.raises(SetupError, match="not in the store"):
        found.verify(spec)
    found.put(spec, source)
    seen: list[tuple[int, int]] = []
    found.verify(spec, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert spec.path.parts[-3:] == ("sha256", DIGEST[:2], DIGEST)

    spec.path.unlink()
    spec.path.write_bytes(CONTENT[:-1])
    with pytest.raises(VerificationError, match="bytes"):
        found.verify(spec)
    spec.path.write_bytes(b"W" + CONTENT[1:])
    with pytest.raises(VerificationError, match="sha256"):
        found.verify(spec)


def test_wrong_file_never_enters_the_store(one: tuple[Catalog, Path], tmp_path: Path) -> None:
    """A file with another digest is refused, and nothing stays behind."""
    found, _ = one
    spec = found.list()[0]
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"x")
    with pytest.raises(VerificationError):
        found.put(spec, wrong)
    assert list(spec.path.parent.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        model_toml(colour="blue"),
        model_toml(sha256="abc"),
        model_toml(size_bytes=-1),
        model_toml(name="../escape"),
        "not toml",
    ],
)
def test_bad_catalogue_files_are_named(tmp_path: Path, text: str) -> None:
    """A mistake in a model's file is a SetupError with the file's name."""
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(SetupError, match=r"bad\.toml"):
        catalog.read_model(path)


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    """Names are unique over ids and aliases."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text(model_toml())
    with pytest.raises(SetupError, match="two models"):
        Catalog.load(home=Home(root=tmp_path), default_model="tiny", directory=tmp_path)
    with pytest.raises(SetupError, match="not in the catalogue"):
        Catalog.load(home=Home(root=tmp_path), default_model="none", directory=tmp_path)


def test_workers_of_other_users_can_read_the_model_and_nothing_else(one: tuple[Catalog, Path]) -> None:
    """The folders down to the file are opened for reading; the home around them keeps its mode."""
    found, source = one
    spec = found.list()[0]
    home = Home(root=spec.path.parents[3])
    found.put(spec, source)
    home.root.chmod(0o700)
    for path in (home.models, spec.path.parent):
        path.chmod(0o700)
    spec.path.chmod(0o600)
    found.open_to_workers(spec, home)

    modes = [path.stat().st_mode & 0o777 for path in (home.root, home.models, spec.path.parent)]
    assert modes == [0o700, 0o755, 0o755]
    assert spec.path.stat().st_mode & 0o444 == 0o444
