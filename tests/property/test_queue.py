"""The line before the model: bounded, fair, starving nobody; tickets end once, told positions are true."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appliance.policy.queue import RECENT_US, Line, State, Ticket

KEYS = ("a", "b", "c", "d", "e")
ENDS = {State.DONE, State.DISPLACED, State.EXPIRED, State.OVER_SHARE, State.FULL}
NEVER_US = 10**15


def ticket(key: str, *, priority: int = 5, num: int = 1, until_us: int = NEVER_US) -> Ticket:
    return Ticket(key, priority, num, until_us)


class Crowd(RuleBasedStateMachine):
    """Everything that can happen to a line, in any order."""

    @initialize(places=st.integers(1, 6), waiting=st.integers(1, 12), spare=st.integers(0, 5))
    def begin(self, places: int, waiting: int, spare: int) -> None:
        self.line = Line(max_inside=places + waiting, places=places, spare=min(spare, places - 1))
        self.now_us = 0
        self.all: list[Ticket] = []
        self.ended: Counter[int] = Counter()
        self.arrived: dict[int, int] = {}

    def end(self, each: Ticket) -> None:
        self.ended[id(each)] += 1

    def of(self, state: State) -> list[Ticket]:
        return [each for each in self.all if each.state is state]

    @rule(
        key=st.sampled_from(KEYS),
        priority=st.integers(0, 9),
        num=st.integers(1, 8),
        patience=st.integers(0, 20),
    )
    def offer(self, key: str, priority: int, num: int, patience: int) -> None:
        new = ticket(key, priority=priority, num=num, until_us=self.now_us + patience * 1_000_000)
        told = self.line.position(new)
        others = len(self.of(State.WAITING))
        self.all.append(new)
        displaced = self.line.offer(new, self.now_us)
        for each in displaced:
            assert each.state is State.DISPLACED
            assert each.key != key
            self.end(each)
        assert 0 <= told <= others
        if new.state is State.WAITING:
            assert displaced or self.line.position(new) == told
        else:
            assert new.state in {State.FULL, State.OVER_SHARE}
            assert not displaced
            self.end(new)

    @rule()
    def grant(self) -> None:
        before = self.of(State.WAITING)
        gone = self.line.grant(self.now_us)
        assert all(each.state is State.RUNNING and each in before for each in gone)

    @precondition(lambda self: self.of(State.RUNNING))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from(self.of(State.RUNNING)))
        self.line.leave(each)
        self.line.leave(each)
        self.end(each)

    @precondition(lambda self: self.of(State.WAITING))
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from(self.of(State.WAITING)))
        self.line.leave(each)
        self.end(each)

    @rule(seconds=st.integers(1, 90))
    def pass_time(self, seconds: int) -> None:
        self.now_us += seconds * 1_000_000
        late = {id(each) for each in self.of(State.WAITING) if each.until_us <= self.now_us}
        expired = self.line.expired(self.now_us)
        assert {id(each) for each in expired} == late
        for each in expired:
            self.end(each)

    @invariant()
    def is_bounded(self) -> None:
        if not hasattr(self, "line"):
            return
        running = self.of(State.RUNNING)
        inside = running + self.of(State.WAITING)
        assert self.line.num_inside == sum(each.num_answers for each in inside) <= self.line.max_inside
        assert self.line.num_free == self.line.places - sum(each.places for each in running) >= 0

    @invariant()
    def ends_once(self) -> None:
        if not hasattr(self, "line"):
            return
        for each in self.all:
            assert self.ended[id(each)] == (each.state in ENDS)

    @invariant()
    def keeps_each_keys_order(self) -> None:
        """Within a key and a priority, whoever came first is served first."""
        if not hasattr(self, "line"):
            return
        order = self.line.waiting()
        assert Counter(map(id, order)) == Counter(map(id, self.of(State.WAITING)))
        for key in KEYS:
            for priority in range(10):
                own = [each.number for each in order if (each.key, each.priority) == (key, priority)]
                assert own == sorted(own)

    def teardown(self) -> None:
        """Nobody starves: when the running ones end and nobody comes, everybody who waits is served."""
        if not hasattr(self, "line"):
            return
        for _ in range(len(self.all) + 1):
            self.grant()
            for each in self.of(State.RUNNING):
                self.line.leave(each)
                self.end(each)
        assert not self.of(State.WAITING)
        assert self.line.num_inside == 0
        self.ends_once()


TestCrowd = Crowd.TestCase
TestCrowd.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def served(line: Line, num: int) -> list[Ticket]:
    """The next ones to be let in, each after the one before has ended."""
    found: list[Ticket] = []
    while len(found) < num and (gone := line.grant(0)):
        found += gone
        for each in gone:
            line.leave(each)
    return found


def filled(line: Line, tickets: list[Ticket]) -> None:
    for each in tickets:
        assert line.offer(each, 0) == []
        assert each.state is State.WAITING


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 9), st.integers(1, 3)), max_size=40))
@settings(deadline=None)
def test_positions_are_the_order_of_service(asked: list[tuple[str, int, int]]) -> None:
    """Where nobody comes or leaves, each is served at exactly the position that it was told."""
    line = Line(max_inside=200, places=3)
    filled(line, [ticket(key, priority=priority, num=num) for key, priority, num in asked])
    promised = line.waiting()
    told = {id(each): line.position(each) for each in promised}
    line.places = 1
    order = served(line, len(asked))

    assert order == promised
    assert [told[id(each)] for each in order] == list(range(len(order)))


@given(
    st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 9)), max_size=30),
    st.integers(0, 20),
    st.sampled_from(KEYS),
    st.integers(0, 9),
)
@settings(deadline=None)
def test_a_new_ones_position_is_told_before_it_comes(
    asked: list[tuple[str, int]], num_served: int, key: str, priority: int
) -> None:
    """What a refusal tells is where the request would have stood."""
    line = Line(max_inside=100, places=1)
    filled(line, [ticket(each, priority=rank) for each, rank in asked])
    served(line, num_served)
    new = ticket(key, priority=priority)
    told = line.position(new)
    filled(line, [new])

    assert line.position(new) == told


@given(st.dictionaries(st.sampled_from(KEYS), st.integers(5, 30), min_size=2))
@settings(deadline=None)
def test_keys_are_served_evenly_however_much_each_asks(waiting: dict[str, int]) -> None:
    """Of keys that always have somebody waiting none is ever ahead of another by more than one."""
    line = Line(max_inside=1000, places=1)
    for key, num in waiting.items():
        filled(line, [ticket(key) for _ in range(num)])
    counts: Counter[str] = Counter()
    for _ in range(min(waiting.values()) * len(waiting)):
        counts[served(line, 1)[0].key] += 1
        assert max(counts[key] for key in waiting) - min(counts[key] for key in waiting) <= 1


@given(st.integers(1, 8), st.integers(20, 60))
@settings(deadline=None)
def test_choices_count_as_so_many(num: int, rounds: int) -> None:
    """A key that asks for several answers at once has no more of them than one that asks one by one."""
    line = Line(max_inside=10_000, places=num)
    filled(
        line, [ticket("one") for _ in range(rounds * num)] + [ticket("many", num=num) for _ in range(rounds)]
    )
    counts: Counter[str] = Counter()
    for _ in range(rounds):
        each = served(line, 1)
        for one in each:
            counts[one.key] += one.num_answers
        assert abs(counts["one"] - counts["many"]) <= 2 * num


def test_a_step_of_priority_doubles_the_turns_and_starves_nobody() -> None:
    """Six against three: eight turns for one; and nine against nought still one in 513."""
    for high, low, share in ((6, 3, 8), (9, 0, 512), (5, 5, 1)):
        line = Line(max_inside=5000, places=1)
        filled(line, [ticket("a", priority=high) for _ in range(3 * share)])
        filled(line, [ticket("b", priority=low) for _ in range(3)])
        order = [each.key for each in served(line, 2 * (share + 1))]
        assert Counter(order) == {"a": 2 * share, "b": 2}


def test_who_was_away_has_no_turns_saved_up() -> None:
    """A key, or a priority, that asked nothing for a while comes in beside the others, not before them."""
    for new in ({"key": "new"}, {"key": "new", "priority": 4}):
        line = Line(max_inside=1000, places=1)
        filled(line, [ticket("old") for _ in range(100)])
        served(line, 50)
        filled(line, [ticket(**new) for _ in range(30)])
        assert 9 <= Counter(each.key for each in served(line, 30))["old"] <= 21


def test_asking_again_and_again_gains_no_turns() -> None:
    """A key whose line runs empty at each grant is served as often as one whose line never does."""
    line = Line(max_inside=1000, places=1)
    filled(line, [ticket("steady") for _ in range(50)])
    counts: Counter[str] = Counter()
    for _ in range(40):
        if not any(each.key == "eager" for each in line.waiting()):
            filled(line, [ticket("eager")])
        counts[served(line, 1)[0].key] += 1

    assert abs(counts["eager"] - counts["steady"]) <= 1


def test_a_flood_gives_way_to_whoever_has_less() -> None:
    """A full line takes in another key at the cost of the newest of the longest, down to equal shares."""
    line = Line(max_inside=12, places=1)
    flood = [ticket("flood") for _ in range(12)]
    filled(line, flood)
    assert line.grant(0) == flood[:1]
    more = ticket("flood")
    line.offer(more, 0)
    came = []
    for _ in range(7):
        came.append(ticket("b"))
        line.offer(came[-1], 0)

    assert more.state is State.FULL  # alone it has the whole line
    assert [each.state for each in came] == [State.WAITING] * 5 + [State.FULL] * 2
    assert [each.state for each in flood[6:]] == [State.WAITING] + [State.DISPLACED] * 5
    late = ticket("flood")
    line.offer(late, 0)
    assert late.state is State.OVER_SHARE
    third = ticket("c")
    assert [each.key for each in line.offer(third, 0)] == ["flood"]


def test_a_key_alone_may_have_every_place_and_beside_others_leaves_some() -> None:
    """Who asks now and then finds a place free; a minute behind the last such, nothing is left unused."""
    line = Line(max_inside=100, places=8, spare=2)
    filled(line, [ticket("long") for _ in range(30)])
    alone = line.grant(0)
    assert len(alone) == 8
    line.offer(ticket("short"), 0)
    for each in alone:
        line.leave(each)

    assert Counter(each.key for each in line.grant(0)) == {"long": 6, "short": 1}
    line.offer(other := ticket("short"), 1)
    assert line.grant(1) == [other]
    assert line.grant(RECENT_US + 2) == []
    line.offer(ticket("long"), RECENT_US + 3)
    line.leave(other)
    assert [each.key for each in line.grant(RECENT_US + 3)] == ["long"]


def test_a_large_request_holds_the_line() -> None:
    """One that needs more places than are free is not overtaken; one larger than all takes all of them."""
    line = Line(max_inside=100, places=4)
    small, large, late = ticket("a", num=2), ticket("b", num=9), ticket("c")
    filled(line, [small, large, late])

    assert line.grant(0) == [small]
    line.leave(small)
    assert line.grant(0) == [large]
    assert (large.places, line.num_free, line.num_inside) == (4, 0, 10)
    line.leave(large)
    assert line.grant(0) == [late]
