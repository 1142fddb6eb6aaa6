"""What the database holds of models, in memory: imported ones, aliases, evaluations."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from sqlalchemy import Connection

from appliance.catalog import AliasOf
from appliance.models import tables
from appliance.models.cards import ONE, Pointed
from appliance.models.tables import Alias, Evaluation, Imported


class State(StrEnum):
    """How a model stands to callers. Derived from aliases, never stored."""

    STAGED = "staged"  # no alias has ever stood for it
    ACTIVE = "active"  # one stands for it
    RETIRED = "retired"  # one did


class Register:
    """Imported models, aliases and evaluations as the database holds them. Owner: the event loop's thread."""

    def __init__(self) -> None:
        self._models: dict[str, Imported] = {}
        self._aliases: dict[str, Alias] = {}
        self._evaluations: dict[str, Evaluation] = {}

    @classmethod
    def read(cls, connection: Connection) -> Register:
        """Of what a database holds."""
        made = cls()
        made.replace(
            tables.load_models(connection),
            tables.load_aliases(connection),
            tables.load_evaluations(connection),
        )
        return made

    def replace(
        self, models: Iterable[Imported], aliases: Iterable[Alias], evaluations: Iterable[Evaluation]
    ) -> None:
        """Take over everything as the database holds it."""
        self._models = {each.id: each for each in models}
        self._aliases = {each.name: each for each in aliases}
        self._evaluations = {each.id: each for each in evaluations}

    def put_model(self, known: Imported) -> None:
        """Take over a model as it stands in the database from now on."""
        self._models[known.id] = known

    def put_alias(self, known: Alias) -> None:
        """Take over an alias as it stands in the database from now on."""
        self._aliases[known.name] = known

    def put_evaluation(self, known: Evaluation) -> None:
        """Take over an evaluation as it stands in the database from now on."""
        self._evaluations[known.id] = known

    def model(self, model_id: str) -> Imported | None:
        """A model that was imported under this id, also where it was removed since."""
        return self._models.get(model_id)

    def models(self) -> list[Imported]:
        """Every imported model that is in the store, oldest first."""
        return [each for each in self._models.values() if each.removed_us is None]

    def alias(self, name: str) -> Alias | None:
        """What a name stands for."""
        return self._aliases.get(name)

    def aliases(self) -> list[Alias]:
        """Every alias, by name."""
        return sorted(self._aliases.values(), key=lambda each: each.name)

    def aliases_of(self, model_id: str) -> list[Alias]:
        """The aliases that need this model or adapter now."""
        return [each for each in self.aliases() if model_id in {each.now.model, each.now.adapter}]

    def evaluations(self, model_id: str, sha256: str) -> list[Evaluation]:
        """How exactly this file did, oldest first."""
        return [
            each for each in self._evaluations.values() if (each.model, each.sha256) == (model_id, sha256)
        ]

    def state(self, model_id: str, sha256: str) -> State:
        """How a model, or an adapter, stands to callers."""
        earlier = False
        for each in self._aliases.values():
            if _means(each.now, model_id, sha256):
                return State.ACTIVE
            earlier = earlier or any(_means(one, model_id, sha256) for one in each.previous)
        return State.RETIRED if earlier else State.STAGED

    def meant(self) -> list[AliasOf]:
        """The aliases, as the catalogue takes them."""
        return [
            AliasOf(
                each.name,
                each.now.model,
                each.now.sha256,
                each.now.adapter,
                each.now.adapter_sha256,
                each.now.scale_thousandths / ONE,
            )
            for each in self.aliases()
        ]


def _means(pointed: Pointed, model_id: str, sha256: str) -> bool:
    return (model_id, sha256) in {
        (pointed.model, pointed.sha256),
        (pointed.adapter, pointed.adapter_sha256),
    }
