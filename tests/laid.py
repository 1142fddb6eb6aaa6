"""Homes whose aliases lay adapters over the starter model, put there as an import and an activation would."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path

from appliance import config, db
from appliance.alone import open_log_alone
from appliance.audit import entry
from appliance.audit.entry import Effects
from appliance.audit.kinds import Kind
from appliance.catalog import file_digest, store_path
from appliance.config import Home
from appliance.core import Purpose
from appliance.models import tables
from appliance.models.cards import Card, Pointed
from appliance.models.tables import Alias, Imported


def lay(home: Home, files: Mapping[str, Path], aliases: Mapping[str, tuple[str, int]]) -> dict[str, str]:
    """Import adapters by id, and let each alias stand for the default model with one of them, so strongly
    (thousandths). Digests by the adapters' ids.
    """
    digests = {name: file_digest(path) for name, path in files.items()}
    with open_log_alone(home, config.load(home)) as alone:
        spec = alone.modelling.catalog.resolve("default")
        assert spec is not None
        for name, path in files.items():
            kept = store_path(home, digests[name])
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, kept)
            known = Imported(
                name, digests[name], path.stat().st_size, Purpose.ADAPTER, path.name, "MIT", "a test", Card()
            )
            asyncio.run(alone.modelling.import_model(known))
        for name, (adapter, thousandths) in aliases.items():
            now = Pointed(spec.id, spec.sha256, adapter, digests[adapter], thousandths)
            row = tables.alias_row(Alias(name, now, 1, "program", "a test"))
            alone.audit.append_sync(
                entry.state_changed(
                    Kind.ALIAS_ACTIVATED,
                    table=tables.ALIAS,
                    row_id=name,
                    row=row,
                    public={"alias": name, "model": spec.id, "model_sha256": spec.sha256},
                    content={},
                    effects=_putting(row),
                )
            )
    return digests


def _putting(row: db.Row) -> Effects:
    return lambda connection, _seq: db.put_row(connection, tables.alias, row)
