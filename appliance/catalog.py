"""The catalogue: `models/*.toml` pins what may run, the home's store holds it by content.

A model's file lies at `models/sha256/ab/<hex>` of its digest. It is hashed again before a worker
loads it: a copied, cut or altered file is refused by name of what differs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from appliance import durable
from appliance.config import Home
from appliance.core import ModelSpec, SamplingParams
from appliance.errors import SetupError, VerificationError

CATALOGUE = Path(__file__).resolve().parent.parent / "models"
DEFAULT_ALIAS = "default"
_CHUNK_BYTES = 8 * 1024 * 1024

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
ModelId = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._/-]{0,99}$")]
Progress = Callable[[int, int], None]


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the file came from: a package, its version, and the file inside it."""

    package: str
    version: str
    member: str


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model card's advice, used where a caller names no value."""

    temperature: Annotated[float, Meta(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Meta(ge=0)] = 40
    min_p: Annotated[float, Meta(ge=0, le=1)] = 0.0
    repeat_penalty: Annotated[float, Meta(gt=0, le=2)] = 1.0


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `models/*.toml`."""

    id: ModelId
    file: str
    sha256: Sha256
    size_bytes: Annotated[int, Meta(ge=1)]
    licence: str
    source: Source
    n_ctx: Annotated[int, Meta(ge=256)]
    created: int = 0
    aliases: tuple[ModelId, ...] = ()
    sampling: Sampling = msgspec.field(default_factory=Sampling)


class Catalog:
    """The models that this appliance knows, by id and by alias."""

    def __init__(self, specs: list[ModelSpec]) -> None:
        self._specs = specs
        self._names: dict[str, ModelSpec] = {}
        for spec in specs:
            for name in (spec.id, *spec.aliases):
                if name in self._names:
                    raise SetupError(f"two models are called {name}", code="bad_catalogue")
                self._names[name] = spec

    @classmethod
    def load(cls, *, home: Home, default_model: str, directory: Path = CATALOGUE) -> Catalog:
        """Read every file of the catalogue. SetupError names the file that is wrong."""
        specs = [_spec(read_model(path), home, default_model) for path in sorted(directory.glob("*.toml"))]
        if not any(spec.id == default_model for spec in specs):
            raise SetupError(
                f"the default model {default_model} is not in the catalogue",
                code="bad_catalogue",
                hint="default_model in appliance.toml must name a file in models/",
            )
        return cls(specs)

    def resolve(self, name: str) -> ModelSpec | None:
        """The model behind an id or alias."""
        return self._names.get(name)

    def list(self) -> list[ModelSpec]:
        """Every model, in the order of their files."""
        return list(self._specs)

    def verify(self, spec: ModelSpec, progress: Progress | None = None) -> None:
        """Size and SHA-256 as pinned. SetupError where the file is missing, VerificationError
        where it is another one.
        """
        try:
            size = spec.path.stat().st_size
            if size != spec.size_bytes:
                raise VerificationError(
                    f"{spec.id}: the file has {size} bytes, {spec.size_bytes} are pinned",
                    code="model_altered",
                )
            digest = file_digest(spec.path, progress)
        except OSError as error:
            raise SetupError(
                f"{spec.id} is not in the store of this home",
                code="model_missing",
                hint="make setup fetches the starter model; then run: make run",
            ) from error
        if digest != spec.sha256:
            raise VerificationError(
                f"{spec.id}: the file's sha256 is not the pinned one", code="model_altered"
            )

    def put(self, spec: ModelSpec, source: Path) -> None:
        """Take a file into the store: linked where that is possible, verified in its place."""
        if spec.path.exists():
            return
        spec.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = spec.path.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        if file_digest(temporary) != spec.sha256:
            temporary.unlink()
            raise VerificationError(f"{spec.id}: the given file is not the pinned one", code="model_altered")
        temporary.replace(spec.path)
        durable.fsync_dir(spec.path.parent)

    def open_to_workers(self, spec: ModelSpec, home: Home) -> None:
        """Let the users of sandboxes read the model: weights are no secret, and the home stays closed."""
        folders = [each for each in spec.path.parents if each.is_relative_to(home.models)]
        for path, mode in [*((each, 0o755) for each in folders), (spec.path, 0o444)]:
            if path.stat().st_mode & mode != mode:
                path.chmod(path.stat().st_mode | mode)


def read_model(path: Path) -> ModelFile:
    """One catalogue file. SetupError names it and the key that is wrong."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=ModelFile)
    except msgspec.MsgspecError as error:
        raise SetupError(f"{path.name}: {error}", code="bad_catalogue") from error


def store_path(home: Home, sha256: str) -> Path:
    """Where a file with this digest lies."""
    return home.models / "sha256" / sha256[:2] / sha256


def file_digest(path: Path, progress: Progress | None = None) -> str:
    """SHA-256 of a file, hex."""
    digest = hashlib.sha256()
    total = path.stat().st_size
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, total)
    return digest.hexdigest()


def _spec(model: ModelFile, home: Home, default_model: str) -> ModelSpec:
    aliases = model.aliases + ((DEFAULT_ALIAS,) if model.id == default_model else ())
    return ModelSpec(
        id=model.id,
        sha256=model.sha256,
        size_bytes=model.size_bytes,
        path=store_path(home, model.sha256),
        aliases=aliases,
        n_ctx=model.n_ctx,
        licence=model.licence,
        created=model.created,
        sampling=SamplingParams(
            temperature=model.sampling.temperature,
            top_p=model.sampling.top_p,
            top_k=model.sampling.top_k,
            min_p=model.sampling.min_p,
            repeat_penalty=model.sampling.repeat_penalty,
        ),
    )
