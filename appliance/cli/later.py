"""Groups of commands, some of which load only when they are asked for: they need what most do without."""

from __future__ import annotations

import importlib

import click


class Later(click.Group):
    """A group with commands of other modules. Owner of `_places`: whoever writes the group."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # click's own business
        self._places: dict[str, tuple[str, str]] = {}

    def add_later(self, name: str, module: str, attribute: str) -> None:
        """`name` is what `attribute` of `module` is, once somebody asks."""
        self._places[name] = (module, attribute)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._places})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self._places:
            module, attribute = self._places[cmd_name]
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        return super().get_command(ctx, cmd_name)
