"""`appliance model bench`: what it is asked for is looked up before anything is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.catalog import Catalog
from appliance.cli import measuring
from appliance.core import ModelSpec, Purpose
from appliance.errors import RequestError


@pytest.mark.parametrize(("name", "code"), [("tone", "not_a_model"), ("nobody", "model_not_found")])
def test_what_can_not_be_measured_is_refused_by_its_name(name: str, code: str) -> None:
    """An adapter computes nothing by itself; what nobody knows is another answer."""
    catalog = Catalog([ModelSpec("starter", "9" * 64, 5, Path("starter"))])
    catalog.learn([ModelSpec("tone", "7" * 64, 5, Path("tone"), purpose=Purpose.ADAPTER)], [])

    assert measuring._found(catalog, "starter").id == "starter"
    with pytest.raises(RequestError) as refused:
        measuring._found(catalog, name)
    assert refused.value.code == code
