"""What an activation asks of a gateway, without one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from appliance.catalog import Catalog
from appliance.core import ModelSpec
from appliance.errors import Unavailable


class FakeLoading:
    """Loads what it is told to, where it has room."""

    def __init__(self, catalog: Catalog, *, has_room: bool = True, loaded: str = "", fails: str = "") -> None:
        self._catalog, self.fails, self._has_room, self._loaded = catalog, fails, has_room, loaded
        self.held: list[str] = []
        self.moves: list[str] = []  # what `default` stood for when names meant something else
        self.seen: list[tuple[str, str]] = []  # what was loaded, and what `default` stood for then

    async def has_room(self, spec: ModelSpec, *, beside: ModelSpec | None) -> bool:
        assert beside is None or beside.id != spec.id
        return self._has_room

    def engine_of(self, spec: ModelSpec) -> object | None:
        return self if spec.id == self._loaded else None

    @contextlib.asynccontextmanager
    async def lease(self, spec: ModelSpec, *, seconds: float) -> AsyncIterator[None]:
        assert seconds > 0
        await asyncio.sleep(0)
        self.seen.append((spec.id, self._default()))
        if self.fails:
            raise Unavailable("it does not load", code=self.fails)
        self.held.append(spec.id)
        yield
        self.held.remove(spec.id)

    def review(self) -> None:
        self.moves.append(self._default())

    def _default(self) -> str:
        found = self._catalog.resolve("default")
        return found.id if found is not None else ""
