"""A model's way from a medium into the store: each step may refuse, nothing is known before the last one.

    1  read      the headers of all parts, in Python alone: whole, true to their length, belonging together
    2  settle    the licence, and who accepts it
    3  copy      into the home, hashed as it is read
    4  compare   the digest and the signature that came with it; the headers once more, of the copy
    5  try       in a process that is thrown away: every tensor, the tokenizer, the templates
    6  keep      where the catalogue looks for it; the caller puts it on the record

What a name means to callers changes only when an alias is activated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.config import Home
from appliance.core import ModelSpec, Purpose
from appliance.engine.inspection import Inspect
from appliance.engine_settings import Engine
from appliance.errors import RequestError
from appliance.gguf import header as gguf
from appliance.gguf import lora
from appliance.gguf.header import Header
from appliance.gguf.lora import AdapterError
from appliance.importing import headers, licences, papers, store, trial
from appliance.importing.headers import Offered
from appliance.importing.refusals import FileRefused
from appliance.importing.store import Copied, Progress
from appliance.models.cards import Card

_NOT_OF_AN_ID: Final = re.compile(r"[^a-z0-9._-]+")
_FILE_NAME: Final = re.compile(r"[^/\x00-\x1f\x7f]{1,200}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the operator says of a file."""

    file: Path
    purpose: Purpose | None = None
    licence: str = ""
    accepts_licence: bool = False
    sha256: str = ""
    signature: bytes = b""
    signer: bytes = b""
    signer_name: str = ""


@dataclass(frozen=True, slots=True)
class Examined:
    """A model that nothing speaks against; its files lie in the store."""

    sha256: str
    size_bytes: int
    purpose: Purpose
    licence: str
    card: Card
    copied: Copied
    signed_by: str | None
    notes: tuple[str, ...]
    fits: tuple[str, ...]  # of an adapter: ids of the models that it can be laid over


def read(file: Path) -> Offered:
    """The headers of a model's files. FileRefused where one of them is none, or is missing."""
    first = _header(file)
    files = headers.parts_of(file, first)
    return Offered(files, (first, *(_header(each) for each in files[1:])))


def id_for(file: Path) -> str:
    """An id from a file's name: `SmolLM2-135M.Q4_1.gguf` is `smollm2-135m.q4_1`."""
    found = headers.SPLIT_NAME.fullmatch(file.name)
    plain = _NOT_OF_AN_ID.sub("-", (found[1] if found else file.stem).casefold()).strip("-._")[:100]
    if not plain:
        raise RequestError(
            "the file's name makes no id", code="invalid_id", param="id", hint="name one: --id"
        )
    return plain


@contextmanager
def examined(
    home: Home,
    wanted: Wanted,
    engine: Engine,
    bases: Callable[[], Sequence[ModelSpec]],
    progress: Progress | None = None,
) -> Iterator[Examined]:
    """Steps 1 to 6. Where the block ends by an exception, what it has put into the store is gone again.

    `bases`: the models that an adapter may be meant for. FileRefused says why a file is not taken.
    """
    offered = read(wanted.file)
    purpose = headers.check(offered, wanted.purpose)
    licence = licences.settle(
        licences.said_by(offered.header), wanted.licence, is_accepted=wanted.accepts_licence
    )
    fitting = _fitting(offered.header, bases()) if purpose is Purpose.ADAPTER else []
    with store.copied(home, offered.files, progress) as made:
        signed_by = _compare(made, wanted, offered)
        found = trial.run(*_question(made, offered, purpose, fitting, engine))
        kept = store.keep(home, made)
        try:
            yield Examined(
                sha256=made.sha256,
                size_bytes=made.size_bytes,
                purpose=purpose,
                licence=licence,
                card=headers.card_of(offered),
                copied=made,
                signed_by=signed_by,
                notes=found.notes,
                fits=tuple(each.id for each in fitting),
            )
        except BaseException:
            if kept:
                store.remove(home, made.sha256, is_split=len(made.files) > 1)
            raise


def _header(file: Path) -> Header:
    if _FILE_NAME.fullmatch(file.name) is None:
        raise FileRefused("bad_model", "the file's name can not be kept")
    try:
        return gguf.read(file)
    except RequestError as error:
        raise FileRefused(error.code, error.message, hint=error.hint) from error


def _fitting(header: Header, bases: Sequence[ModelSpec]) -> list[ModelSpec]:
    """The models that an adapter can be laid over. FileRefused where there is none."""
    try:
        lora.check_alone(header)
    except AdapterError as error:
        raise FileRefused("bad_adapter", str(error)) from error
    reasons = []
    found = []
    for spec in bases:
        base = Offered(
            tuple(each.path for each in spec.parts) or (spec.path,),
            tuple(gguf.read(each) for each in [part.path for part in spec.parts] or [spec.path]),
        )
        try:
            lora.check_on(header, base.header.arch, {each.name: each.shape for each in base.tensors})
        except AdapterError as error:
            reasons.append(f"{spec.id}: {error}")
        else:
            found.append(spec)
    if not found:
        raise FileRefused(
            "adapter_without_model",
            f"no model of this appliance takes it; {'; '.join(reasons) or 'there is none in the store'}",
            hint="import the model that it was trained on first",
        )
    return found


def _compare(made: Copied, wanted: Wanted, offered: Offered) -> str | None:
    """Hold the copy against its papers, and against what was read before. Who signed, where somebody did."""
    if wanted.sha256:
        papers.check_digest(wanted.sha256, made.sha256, made.files)
    signed_by = None
    if wanted.signature:
        signed_by = papers.check_signature(wanted.signature, wanted.signer, wanted.signer_name, made.files)
    if tuple(_header(each) for each in made.paths) != offered.headers:
        raise FileRefused("model_altered", "the file changed while it was read", sha256=made.sha256)
    return signed_by


def _question(
    made: Copied, offered: Offered, purpose: Purpose, fitting: Sequence[ModelSpec], engine: Engine
) -> tuple[Inspect, int]:
    """What the trial is asked, and how many bytes it reads."""
    path, adapter, size = made.paths[0], "", made.size_bytes
    memory = trial.MEMORY_BYTES
    if fitting:
        base = fitting[0]
        files = [each.path for each in base.parts] or [base.path]
        adapter, path = str(path), trial.linked(made.folder, files)[0]
        memory += made.size_bytes  # an adapter is copied into memory, a model is not
        size += base.size_bytes
    return (
        Inspect(
            folder=str(made.folder),
            path=str(path),
            purpose=purpose.value,
            files=tuple(map(str, made.paths)),
            adapter=adapter,
            templates=tuple(sorted(headers.templates(offered.header))),
            num_tokens=0 if adapter else offered.header.length("tokenizer.ggml.tokens") or 0,
            memory_bytes=memory,
            cpu_seconds=60 + size // 20_000_000,
            sandbox=engine.sandbox,
        ),
        size,
    )
