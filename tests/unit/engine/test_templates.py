"""A chat template is a program from outside: what a hostile one gets, and how long it runs."""

from __future__ import annotations

import threading
import time

import pytest

from appliance.engine.worker import templates
from appliance.engine.worker.deadline import Deadline, TooSlowError
from appliance.engine.worker.templates import ChatTemplate, TemplateRefusedError

MESSAGES = {"messages": [{"role": "user", "content": "{{ 7 * 7 }} canary"}]}
ENDLESS = {
    "loops in loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a macro that calls itself twice": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(90) }}"
    ),
    "a filter over and over": "{% for i in range(99999) %}{{ range(99999)|list|sort|first }}{% endfor %}",
    "text without an end": "{{ lipsum(n=99999999) }}",
}
VAST = [
    "{{ 'x' * 10 ** 10 }}",
    "{{ 10 ** 10 * 'x' }}",
    "{{ [1] * (10 ** 9) }}",
    "{{ 2 ** (10 ** 9) }}",
    "{{ 9 ** (9 ** 9) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ 'x'|center(1000000000) }}",
    "{{ range(10 ** 9)|list }}",
]
CURIOUS = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__ }}",
    "{{ messages[0].__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ self._TemplateReference__context }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__code__ }}",
    "{{ [messages]|map(attribute='__class__')|list }}",
    "{{ messages|attr('__class__') }}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends 'x' %}",
    "{{ messages.clear() }}",
    "{{ messages[0].update(role='system') }}",
]


# A strike can hit the collection of others' garbage, where it is told and ignored; then there is another.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("text", ENDLESS.values(), ids=ENDLESS)
def test_a_template_without_an_end_is_ended(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it loops with; and the next one runs as if nothing had been."""
    monkeypatch.setattr(templates, "MAX_SECONDS", 0.2)
    made = ChatTemplate(text)
    with pytest.raises(TemplateRefusedError, match="takes too long"):
        made.render(MESSAGES)

    assert ChatTemplate("{{ messages[0].role }}").render(MESSAGES) == "user"


@pytest.mark.parametrize("text", VAST)
def test_a_template_that_makes_much_of_little_is_refused(text: str) -> None:
    """No single step makes something vast, neither at work nor while it is compiled."""
    with pytest.raises(TemplateRefusedError):
        ChatTemplate(text).render(MESSAGES)


@pytest.mark.parametrize("text", CURIOUS)
def test_a_template_that_looks_around_sees_nothing(text: str) -> None:
    """Not our objects, no file, no module; nor does it change what it was given."""
    try:
        rendered = ChatTemplate(text).render(MESSAGES)
    except TemplateRefusedError as error:
        rendered = str(error)
    assert not any(word in rendered for word in ("class", "root:", "uid=", "module", "built-in", "0x"))
    assert MESSAGES == {"messages": [{"role": "user", "content": "{{ 7 * 7 }} canary"}]}


def test_a_message_is_no_template() -> None:
    """What callers write is put in as it is: nothing in it is computed."""
    assert ChatTemplate("{{ messages[0].content }}").render(MESSAGES) == "{{ 7 * 7 }} canary"


def test_ordinary_arithmetic_stays() -> None:
    """What templates of real models do."""
    text = "{{ '-' * 3 }}{{ 2 * 3 }}{{ 2 ** 5 }}{{ 7 % 4 }}{{ '%02d' % 5 }}{{ '%s' | format('a') }}"

    assert ChatTemplate(text).render({}) == "---632305a"


def test_a_deadline_strikes_its_own_thread_only() -> None:
    """Nobody else is interrupted, and what ended in time is not struck later."""
    deadline = Deadline()
    with pytest.raises(TooSlowError), deadline.within(0.05):
        while True:
            pass
    for _ in range(1000):
        with deadline.within(0.0001):
            pass
    other = threading.Thread(target=time.sleep, args=(0.2,))
    other.start()
    with deadline.within(5):
        other.join()
    assert not other.is_alive()
