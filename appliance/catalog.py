"""The catalogue: `models/*.toml` pins what may run, the home's store holds it by content.

A model's file lies at `models/sha256/ab/<hex>` of its digest. It is hashed again before a worker
loads it: a copied, cut or altered file is refused by name of what differs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from appliance import durable
from appliance.config import Home
from appliance.core import Adapter, ModelPart, ModelSpec, Purpose, SamplingParams
from appliance.errors import RequestError, SetupError, VerificationError

CATALOGUE = Path(__file__).resolve().parent.parent / "models"
DEFAULT_ALIAS = "default"
_CHUNK_BYTES = 8 * 1024 * 1024

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
ModelId = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._/-]{0,99}$")]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class AliasOf:
    """A name that callers use, and the model that it stands for: found only where its digest is this one.

    `adapter` is the id of an imported LoRA file, or empty.
    """

    name: str
    model: str
    sha256: str
    adapter: str = ""
    adapter_sha256: str = ""
    scale: float = 1.0


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
    """The models that this appliance knows, by id and by alias: the release's own, and imported ones.

    Owner of what was learned: the event loop's thread, or whoever made the catalogue.
    """

    def __init__(self, specs: list[ModelSpec]) -> None:
        self.lost: tuple[AliasOf, ...] = ()  # aliases of what is not here, or is another file
        self._own = specs
        self._all = list(specs)
        self._names: dict[str, ModelSpec] = {}
        for spec in specs:
            for name in (spec.id, *spec.aliases):
                if name in self._names:
                    raise SetupError(f"two models are called {name}", code="bad_catalogue")
                self._names[name] = spec
        self._own_names = dict(self._names)

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

    def learn(self, models: Sequence[ModelSpec], aliases: Sequence[AliasOf]) -> None:
        """Take over every imported model and every alias, in the place of those that were learned before.

        The release's own models keep their names; an alias goes before the aliases of their files, and is
        passed over where what it stands for is not here (`lost`): `default` then means what the configuration
        says.
        """
        own = {each.id for each in self._own}
        known = {each.id: each for each in (*models, *self._own)}
        names = dict(self._own_names)
        names |= {each.id: each for each in models if each.id not in own}
        self.lost = tuple(each for each in aliases if _resolved(each, known) is None)
        for each in aliases:
            spec = _resolved(each, known)
            if spec is not None and each.name not in known:
                names[each.name] = spec
        # Of a model with an adapter the names are others than without: two names are one right only where
        # they are answered alike.
        meant: dict[tuple[str, Adapter | None], tuple[str, ...]] = {}
        for name, spec in names.items():
            if name != spec.id:
                place = (spec.id, spec.adapter)
                meant[place] = (*meant.get(place, ()), name)
        self._all = [
            replace(each, aliases=meant.get((each.id, None), ()))
            for each in (*self._own, *(each for each in models if each.id not in own))
        ]
        self._names = {
            name: replace(spec, aliases=meant.get((spec.id, spec.adapter), ()))
            for name, spec in names.items()
        }

    def names(self) -> Mapping[str, ModelSpec]:
        """Every alias, and what it stands for."""
        return {name: spec for name, spec in self._names.items() if name != spec.id}

    def names_of(self, model_id: str) -> Sequence[str]:
        """The aliases that a model answers, with an adapter or without; or those that use this adapter."""
        return sorted(
            name
            for name, spec in self.names().items()
            if model_id == spec.id or (spec.adapter is not None and model_id == spec.adapter.id)
        )

    def resolve(self, name: str) -> ModelSpec | None:
        """The model behind an id or alias; with its adapter, where the alias has one.

        A LoRA file is none: nothing answers with it alone.
        """
        found = self._names.get(name)
        return None if found is None or found.purpose is Purpose.ADAPTER else found

    def adapters_of(self, model_id: str) -> tuple[Adapter, ...]:
        """The LoRA files that aliases lay over a model: each at each strength once."""
        laid = [each.adapter for each in self._names.values() if each.id == model_id]
        return tuple(dict.fromkeys(each for each in laid if each is not None))

    def find(self, model_id: str) -> ModelSpec | None:
        """What is known under exactly this id, a LoRA file too."""
        return next((each for each in self._all if each.id == model_id), None)

    def named(self, name: str) -> ModelSpec:
        """What a name or an id stands for, a LoRA file too. RequestError where it is nothing."""
        found = self.resolve(name) or self.find(name)
        if found is None:
            raise RequestError(
                f"no model or alias is called {name}", code="model_not_found", hint="appliance model list"
            )
        return found

    def list(self) -> list[ModelSpec]:
        """Every model: the release's own in the order of their files, then the imported ones."""
        return list(self._all)

    def verify(self, spec: ModelSpec, progress: Progress | None = None) -> None:
        """Size and SHA-256 of every file as pinned, and of every adapter that lies over the model. SetupError
        where a file is missing, VerificationError where it is another one.
        """
        whole = (ModelPart(spec.path, spec.sha256, spec.size_bytes),)
        done = 0
        total = sum(each.size_bytes for each in spec.parts or whole)
        for each in spec.parts or whole:
            _verify(spec.id, each, _from(done, total, progress))
            done += each.size_bytes
        for laid in self._laid_over(spec):
            _verify(laid.id, ModelPart(laid.path, laid.sha256, laid.size_bytes))

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
        files = [each.path for each in spec.parts] or [spec.path]
        files += [each.path for each in self._laid_over(spec)]
        folders = {each for file in files for each in file.parents if each.is_relative_to(home.models)}
        for path, mode in [*((each, 0o755) for each in folders), *((each, 0o444) for each in files)]:
            if path.stat().st_mode & mode != mode:
                path.chmod(path.stat().st_mode | mode)

    def _laid_over(self, spec: ModelSpec) -> tuple[Adapter, ...]:
        """The files that a worker reads besides the model's: of each one, at whatever strength."""
        own = [spec.adapter] if spec.adapter is not None else []
        return tuple({each.path: each for each in (*self.adapters_of(spec.id), *own)}.values())


def _verify(name: str, part: ModelPart, progress: Progress | None = None) -> None:
    try:
        size = part.path.stat().st_size
        if size != part.size_bytes:
            raise VerificationError(
                f"{name}: the file has {size} bytes, {part.size_bytes} are pinned", code="model_altered"
            )
        digest = file_digest(part.path, progress)
    except OSError as error:
        raise SetupError(
            f"{name} is not in the store of this home",
            code="model_missing",
            hint="make setup fetches the starter model; then run: make run",
        ) from error
    if digest != part.sha256:
        raise VerificationError(f"{name}: the file's sha256 is not the pinned one", code="model_altered")


def _from(done: int, total: int, progress: Progress | None) -> Progress | None:
    """Progress of one file of several, as of all of them."""
    if progress is None:
        return None
    return lambda read, _size: progress(done + read, total)


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


def _resolved(alias: AliasOf, known: Mapping[str, ModelSpec]) -> ModelSpec | None:
    """What an alias stands for; None where a file of its digest is not here."""
    spec = known.get(alias.model)
    if spec is None or spec.sha256 != alias.sha256:
        return None
    if not alias.adapter:
        return spec
    laid = known.get(alias.adapter)
    if laid is None or laid.sha256 != alias.adapter_sha256:
        return None
    return replace(spec, adapter=Adapter(laid.id, laid.sha256, laid.path, laid.size_bytes, alias.scale))


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
