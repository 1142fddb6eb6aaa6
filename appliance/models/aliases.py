"""What an alias may be called and stand for: looked up in the catalogue, changed by nobody here."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, Final

from appliance.catalog import Catalog
from appliance.core import Adapter, ModelSpec, Purpose
from appliance.errors import RequestError
from appliance.gguf import lora
from appliance.models.cards import ONE, Pointed
from appliance.models.tables import Alias

MAX_ALIASES: Final = 100
MAX_PREVIOUS: Final = 10  # so often an alias can be rolled back
MAX_WHY: Final = 500
MAX_SCALE: Final = 10
NOWHERE: Final = Pointed("", "")  # what a removed alias stands for
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,47}")


def check_name(name: str, catalog: Catalog, known: Sequence[Alias]) -> None:
    """RequestError for a name that can be no alias, or none more."""
    if _NAME.fullmatch(name) is None:
        raise RequestError(
            "an alias has 1 to 48 of a-z, 0-9, '.', '_' and '-', a letter or a digit first",
            code="invalid_name",
            param="alias",
        )
    if catalog.find(name) is not None:
        raise RequestError("this name is a model's id", code="alias_taken", param="alias")
    if len(known) >= MAX_ALIASES and all(each.name != name for each in known):
        raise RequestError(f"there are {MAX_ALIASES} aliases already", code="too_many", param="alias")


def check_why(why: str) -> None:
    """RequestError where no reason is given, or one that no list shows."""
    if not why.strip() or len(why) > MAX_WHY or not why.isprintable():
        raise RequestError(
            f"a reason has 1 to {MAX_WHY} printable characters, on one line",
            code="invalid_reason",
            param="why",
        )


def pointed(catalog: Catalog, model_id: str, adapter_id: str, scale: float) -> Pointed:
    """What an alias is to stand for. RequestError where one of the two is not here, or is none."""
    spec = _found(catalog, model_id, "model")
    if not adapter_id:
        return Pointed(spec.id, spec.sha256)
    thousandths = round(scale * ONE)
    if not 0 < thousandths <= MAX_SCALE * ONE:
        raise RequestError(f"an adapter's scale is 0.001 to {MAX_SCALE}", code="invalid_scale", param="scale")
    laid = _found(catalog, adapter_id, "adapter")
    if laid.purpose is not Purpose.ADAPTER:
        raise RequestError("this model is no adapter", code="wrong_purpose", param="adapter")
    return Pointed(spec.id, spec.sha256, laid.id, laid.sha256, thousandths)


def spec_of(catalog: Catalog, meant: Pointed) -> ModelSpec:
    """What would answer. RequestError where exactly these files are not known any more."""
    spec = _same(catalog, meant.model, meant.sha256)
    if not meant.adapter:
        return spec
    laid = _same(catalog, meant.adapter, meant.adapter_sha256)
    scale = meant.scale_thousandths / ONE
    return dataclasses.replace(spec, adapter=Adapter(laid.id, laid.sha256, laid.path, laid.size_bytes, scale))


def stands_for(catalog: Catalog, name: str) -> Pointed | None:
    """What a name stands for, by an act, the configuration or the release; None for a name of nothing."""
    found = catalog.resolve(name)
    if found is None or found.id == name:
        return None
    laid = found.adapter
    if laid is None:
        return Pointed(found.id, found.sha256)
    return Pointed(found.id, found.sha256, laid.id, laid.sha256, round(laid.scale * ONE))


def pushed(before: Pointed | None, known: Alias | None) -> tuple[Pointed, ...]:
    """What an alias stood for once it moves on, the latest first."""
    earlier = known.previous if known is not None else ()
    return (earlier if before is None else (before, *earlier))[:MAX_PREVIOUS]


def check_adapter(spec: ModelSpec) -> None:
    """RequestError where the adapter was trained on another model. Reads headers: called in a thread."""
    if spec.adapter is None:
        return
    try:
        lora.check(spec.adapter.path, *lora.shapes_of(each.path for each in spec.parts or (spec,)))
    except lora.AdapterError as error:
        raise RequestError(
            f"{spec.adapter.id} does not fit {spec.id}: {error}", code="adapter_unfit", param="adapter"
        ) from error


def told(meant: Pointed) -> dict[str, Any]:
    """What a name stands for, as JSON's own values."""
    return {
        "model": meant.model,
        "sha256": meant.sha256,
        "adapter": meant.adapter,
        "adapter_sha256": meant.adapter_sha256,
        "scale": meant.scale_thousandths / ONE,
    }


def _found(catalog: Catalog, model_id: str, param: str) -> ModelSpec:
    spec = catalog.find(model_id)
    if spec is None:
        raise RequestError(
            f"no {param} has this id",
            code="model_not_found",
            param=param,
            hint="appliance model list shows ids",
        )
    return spec


def _same(catalog: Catalog, model_id: str, sha256: str) -> ModelSpec:
    spec = catalog.find(model_id)
    if spec is None or spec.sha256 != sha256:
        raise RequestError(
            f"{model_id} is not here any more as it was",
            code="model_not_found",
            hint="appliance model activate names another one",
        )
    return spec
