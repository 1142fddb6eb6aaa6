"""The decisions of an installation, without a host: every crash at every moment, also within a step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.bundle.install import steps
from appliance.bundle.install.steps import PATHS, State, Undo, What


@dataclass(frozen=True)
class World:
    """What matters of a host: which release serves, where `current` leads, whose schema the home has."""

    serves: str
    current: str
    schema: str
    has_copy: bool = False


OLD, NEW = "old", "new"
BEFORE = World(serves=OLD, current=OLD, schema=OLD)


def effects(state: State, *, restores: bool) -> list[World | str]:
    """The small things that a step does, in order, as changes of a world."""
    return {
        State.QUIESCED: ["serves="],
        State.DB_BACKED_UP: ["copy"],
        State.MIGRATED: ["schema=new"] if restores else [],
        State.SWITCHED: ["current=new", "serves=current"],
    }.get(state, [])  # type: ignore[return-value]


def act(world: World, effect: str) -> World:
    match effect:
        case "serves=":
            return replace(world, serves="")
        case "copy":
            return replace(world, has_copy=True)
        case "schema=new":
            return replace(world, schema=NEW)
        case "current=new":
            return replace(world, current=NEW)
        case "serves=current":
            return replace(world, serves=world.current)
    raise AssertionError(effect)


def undo(world: World, each: Undo) -> World:
    match each:
        case Undo.STOP:
            return replace(world, serves="")
        case Undo.RESTORE:
            assert world.has_copy, "nothing to restore from"
            assert not world.serves, "a running gateway would write into what is put back"
            return replace(world, schema=OLD)
        case Undo.RELINK:
            return replace(world, current=OLD)
        case Undo.START:
            return replace(world, serves=world.serves or world.current)


@given(st.sampled_from([What.UPGRADE, What.ROLLBACK]), st.booleans(), st.data())
def test_any_crash_is_undone_to_the_old_release_serving(
    what: What, restores: object, data: st.DataObject
) -> None:
    """Killed behind any line, and behind any part of the step that follows it; undoing may be killed, too."""
    path = PATHS[what][: PATHS[what].index(State.COMMITTED)]
    restores = bool(restores)
    lines = data.draw(st.integers(1, len(path)))
    world = BEFORE
    for state in path[:lines]:
        for effect in effects(state, restores=restores):
            world = act(world, str(effect))
    following = steps.following(what, path[lines - 1])
    assert following is not None
    half = effects(following, restores=restores)
    for effect in half[: data.draw(st.integers(0, len(half)))]:
        world = act(world, str(effect))

    acts = steps.undoing(what, path[lines - 1], has_previous=True, restores=restores)
    for each in acts[: data.draw(st.integers(0, len(acts)))]:  # the undoing is killed somewhere
        world = undo(world, each)
    for each in acts:
        world = undo(world, each)

    assert (world.serves, world.current, world.schema) == (OLD, OLD, OLD)


@pytest.mark.parametrize("what", list(What))
def test_committed_is_never_undone(what: What) -> None:
    """Behind the commit point there is only tidying."""
    assert steps.undoing(what, State.COMMITTED, has_previous=True, restores=True) == ()
    assert not steps.is_undone(State.COMMITTED)
    assert steps.following(what, State.COMMITTED) is State.TIDIED
    assert not steps.may_follow(what, State.COMMITTED, State.ROLLING_BACK)


@pytest.mark.parametrize("what", list(What))
def test_journal_can_say_paths_and_ways_back_and_nothing_else(what: What) -> None:
    """Each line follows its own; from any but the last two a way back begins, and ends, and is the end."""
    path = PATHS[what]
    for before, state in zip((None, *path), path, strict=False):
        allowed = {each for each in State if steps.may_follow(what, before, each)}
        back = {State.ROLLING_BACK} if before is not State.COMMITTED else set()
        assert allowed == {state} | back
    assert {each for each in State if steps.may_follow(what, State.ROLLING_BACK, each)} == {
        State.ROLLING_BACK,
        State.ROLLED_BACK,
    }
    for end in (State.TIDIED, State.ROLLED_BACK):
        assert not any(steps.may_follow(what, end, each) for each in State)


def test_first_installation_leaves_nothing_to_start_again() -> None:
    """Without a release before there is nothing to restore and nothing to start."""
    acts = steps.undoing(What.INSTALL, State.PROBATION, has_previous=False, restores=True)

    assert acts == (Undo.STOP, Undo.RELINK)


@pytest.mark.parametrize(
    ("installed", "min_serial", "via", "allowed"),
    [(5, 3, (), True), (3, 3, (), True), (2, 3, (), False), (2, 3, (2,), True), (1, 3, (2,), False)],
)
def test_upgrades_are_direct_from_a_serial_on_or_from_named_ones(
    installed: int, min_serial: int, via: tuple[int, ...], *, allowed: bool
) -> None:
    """`min_serial` and later, and those that `via` names."""
    assert steps.is_upgrade_allowed(installed, min_serial=min_serial, via=via) == allowed
