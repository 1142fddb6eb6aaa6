"""Which model is loaded, held or gone: each branch of the tree is a case."""

from __future__ import annotations

from dataclasses import replace

from appliance.policy.residency import Decided, Resident, Rules, TooLarge, Wanted, Why, decide, room_for

RULES = Rules(budget_bytes=30, turn_us=100)
A, B, C = (Resident(each, 10, ready_us=at, used_us=at) for at, each in enumerate("abc"))


def want(model_id: str = "x", num_bytes: int = 10, since_us: int = 50) -> Wanted:
    return Wanted(model_id, num_bytes, since_us)


def busy(each: Resident, num_leases: int = 1) -> Resident:
    return replace(each, num_leases=num_leases)


def test_what_fits_is_loaded_whoever_waits_longest_first() -> None:
    """Free room is given out in the order of asking."""
    decided = decide(RULES, [A], [want("y", since_us=60), want("x"), want("z", since_us=70)], 100)
    assert decided.load == ("x", "y")
    assert decided.evict == (("a", Why.ROOM),)  # for the third


def test_idle_models_go_the_longest_unused_first_and_no_more_than_needed() -> None:
    """One for one; of a small and a large one the small one stays where the large one is enough."""
    assert decide(RULES, [C, A, B], [want()], 100) == Decided(evict=(("a", Why.ROOM),))
    small = Resident("s", 2, used_us=-5)
    assert decide(RULES, [small, A, B], [want(num_bytes=18)], 100).evict == (("a", Why.ROOM),)


def test_a_model_that_answers_is_held_when_its_turn_is_over_and_goes_after_its_last_answer() -> None:
    """Before its turn is over nothing happens; then it begins nothing; without a lease it goes."""
    residents = [busy(A), replace(busy(B), ready_us=40), busy(C)]
    early = decide(RULES, residents, [want()], 99)
    assert early == Decided(again_us=100)
    assert decide(RULES, residents, [want()], 100).hold == {"a"}
    drained = [replace(A, num_waiting=3), *residents[1:]]
    assert decide(RULES, drained, [want()], 100).evict == (("a", Why.ROOM),)


def test_a_turn_is_at_least_as_long_as_the_load_was() -> None:
    """A model that took long to load answers for as long before it makes room."""
    slow = replace(busy(A), load_us=500)
    rules = replace(RULES, budget_bytes=10)
    assert decide(rules, [slow], [want()], 499) == Decided(again_us=500)
    assert decide(rules, [slow], [want()], 500).hold == {"a"}


def test_pinned_and_loading_models_stay() -> None:
    """However long somebody waits for their room."""
    pinned = replace(A, is_pinned=True)
    loading = replace(B, is_ready=False)
    decided = decide(RULES, [pinned, loading, C], [want(num_bytes=20)], 10_000)
    assert decided == Decided()


def test_a_worker_that_is_down_makes_room_at_once() -> None:
    """It answers nobody: who waits for it waits for its next load."""
    down = replace(A, is_ready=False, is_down=True, num_waiting=1)
    assert decide(replace(RULES, budget_bytes=10), [down], [want()], 500).evict == (("a", Why.ROOM),)


def test_what_is_free_is_kept_for_a_large_model_that_waits() -> None:
    """A small one behind it does not take the room, or large ones would starve."""
    rules = replace(RULES, budget_bytes=35)
    residents = [busy(A), busy(B), busy(C)]
    decided = decide(rules, residents, [want(num_bytes=20), want("small", 5, since_us=60)], 50)
    assert decided.load == ()
    assert decided.again_us == 100


def test_room_that_is_being_made_is_not_made_twice() -> None:
    """While a model leaves, nobody else has to go for the same one that waits."""
    leaving = replace(A, is_leaving=True)
    assert decide(RULES, [leaving, B, C], [want()], 500) == Decided()
    both = decide(RULES, [leaving, B, C], [want(), want("y", since_us=60)], 500)
    assert both.evict == (("b", Why.ROOM),)


def test_a_model_that_never_fits_is_refused_with_the_numbers() -> None:
    """The budget less what is pinned; another one is not kept from loading by it."""
    residents = [replace(A, is_pinned=True)]
    assert room_for(RULES, residents, "x") == 20
    decided = decide(RULES, residents, [want(num_bytes=21), want("y", since_us=60)], 100)
    assert decided.refuse == (TooLarge("x", 21, 20),)
    assert decided.load == ("y",)


def test_models_that_nobody_asks_go_after_a_while() -> None:
    """Only where `idle_us` says so; a pinned one, and one that is asked, stay."""
    rules = replace(RULES, idle_us=1000)
    residents = [A, replace(B, is_pinned=True), busy(C)]
    assert decide(rules, residents, [], 999) == Decided(again_us=1000)
    assert decide(rules, residents, [], 1000).evict == (("a", Why.IDLE),)
    assert decide(RULES, residents, [], 10**9) == Decided()


def test_a_worker_that_holds_more_than_was_reckoned_costs_idle_ones_their_place() -> None:
    """The budget is kept even where an estimate was wrong."""
    large = replace(busy(A), num_bytes=15)
    assert decide(RULES, [large, B, C], [], 100).evict == (("b", Why.ROOM),)
