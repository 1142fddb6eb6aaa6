"""Whatever is asked of whichever models: the budget holds, nobody is cut off, and nobody starves."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.policy.residency import Resident, Rules, Wanted, decide

TURN_US, LOAD_US, UNLOAD_US, ANSWER_US = 100, 30, 10, 40


@dataclass
class Question:
    """Asked at a moment; answered for `ANSWER_US` at most. `again`: its caller asks the next one at once."""

    model: str
    came_us: int
    length_us: int
    again: bool = False
    began_us: int | None = None


@dataclass
class World:
    """Models that load and leave as slowly as the constants say; each answers two questions at once."""

    sizes: dict[str, int]
    rules: Rules
    pinned: frozenset[str]
    now_us: int = 0
    residents: dict[str, Resident] = field(default_factory=dict)
    until_us: dict[str, int] = field(default_factory=dict)  # a load's or an unload's end
    held: frozenset[str] = frozenset()
    questions: list[Question] = field(default_factory=list)
    waited_us: list[int] = field(default_factory=list)

    def step(self) -> None:
        """What has ended, what is decided, who goes; then to the next moment."""
        self._end()
        found = [self._counted(each) for each in self.residents.values()]
        waiting = [each for each in self.questions if each.began_us is None]
        wanted = [
            Wanted(model, size, min(each.came_us for each in waiting if each.model == model))
            for model, size in self.sizes.items()
            if model not in self.residents and any(each.model == model for each in waiting)
        ]
        decided = decide(self.rules, found, wanted, self.now_us)
        known = {each.id: each for each in found}
        for model, _ in decided.evict:
            gone = known[model]
            assert not gone.num_leases
            assert not gone.is_pinned
            assert gone.is_ready
            self.residents[model] = replace(self.residents[model], is_leaving=True)
            self.until_us[model] = self.now_us + UNLOAD_US
        assert not decided.hold & self.pinned
        self.held = decided.hold
        for model in decided.load:
            self.residents[model] = Resident(
                model, self.sizes[model], is_pinned=model in self.pinned, is_ready=False
            )
            self.until_us[model] = self.now_us + LOAD_US
        for each in decided.refuse:
            pinned = sum(self.sizes[model] for model in self.pinned & set(self.residents) - {each.id})
            assert self.sizes[each.id] > self.rules.budget_bytes - pinned
            self.questions = [question for question in self.questions if question.model != each.id]
        assert sum(each.num_bytes for each in self.residents.values()) <= self.rules.budget_bytes
        self._begin()
        self.now_us += 5

    def _counted(self, each: Resident) -> Resident:
        asked = [question for question in self.questions if question.model == each.id]
        num_leases = sum(question.began_us is not None for question in asked)
        return replace(each, num_leases=num_leases, num_waiting=len(asked) - num_leases)

    def _end(self) -> None:
        for model, at_us in list(self.until_us.items()):
            if at_us > self.now_us:
                continue
            del self.until_us[model]
            if self.residents[model].is_leaving:
                del self.residents[model]
            else:
                self.residents[model] = replace(
                    self.residents[model], is_ready=True, ready_us=self.now_us, load_us=LOAD_US
                )
        for each in list(self.questions):
            if each.began_us is not None and each.began_us + each.length_us <= self.now_us:
                self.questions.remove(each)
                self.residents[each.model] = replace(self.residents[each.model], used_us=self.now_us)
                if each.again:
                    self.questions.append(replace(each, came_us=self.now_us, began_us=None))

    def _begin(self) -> None:
        for model, each in self.residents.items():
            if not each.is_ready or each.is_leaving or model in self.held:
                continue
            asked = [question for question in self.questions if question.model == model]
            free = 2 - sum(question.began_us is not None for question in asked)
            waiting = [question for question in asked if question.began_us is None]
            for question in itertools.islice(waiting, max(0, free)):
                question.began_us = self.now_us
                self.waited_us.append(self.now_us - question.came_us)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Up to eight models of any size, a budget, and pins that fit it."""
    sizes = draw(st.lists(st.integers(1, 10), min_size=1, max_size=8))
    named = {f"m{place}": size for place, size in enumerate(sizes)}
    pinned = draw(st.sets(st.sampled_from(sorted(named)), max_size=2))
    budget = draw(st.integers(max(1, sum(named[each] for each in pinned)), 40))
    return World(named, Rules(budget, TURN_US), frozenset(pinned))


@settings(max_examples=60, deadline=None)
@given(worlds(), st.data())
def test_every_question_is_answered_or_refused_in_a_bounded_time(world: World, data: st.DataObject) -> None:
    """Streams that never end, and single questions at any moment: each begins before every model has had
    a turn; nothing that answers, is pinned or loads is evicted; the budget is never exceeded.
    """
    models = st.sampled_from(sorted(world.sizes))
    for model in data.draw(st.lists(models, max_size=6)):
        world.questions.append(Question(model, 0, ANSWER_US, again=True))
    singles = data.draw(st.lists(st.tuples(models, st.integers(0, 1500)), max_size=12))
    longest_us = (len(world.sizes) + 1) * (TURN_US + ANSWER_US + UNLOAD_US + LOAD_US + 30)
    for _ in range(3000 // 5 + longest_us // 5):
        for model, at_us in singles:
            if world.now_us <= at_us < world.now_us + 5:
                world.questions.append(Question(model, world.now_us, ANSWER_US))
        world.step()
    left = [each.came_us for each in world.questions if each.began_us is None]
    waited = world.waited_us + [world.now_us - each for each in left]

    assert max(waited, default=0) <= 6 * longest_us
    assert not any(not each.again and each.came_us <= 1500 for each in world.questions)


def test_without_turns_a_question_would_starve() -> None:
    """What the bound is for: where a turn never ends, two steady streams keep a third model out."""
    world = World({"a": 1, "b": 1, "c": 1}, Rules(2, 10**9), frozenset())
    world.questions = [Question(each, 0, ANSWER_US, again=True) for each in "aabb"]
    world.questions.append(Question("c", 1, ANSWER_US))
    for _ in range(2000):
        world.step()
    assert any(each.model == "c" for each in world.questions)
