"""Templates are foreign programs: what they may use, what their failures become, where BOS comes from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.engine.messages import LoadModel
from appliance.engine.question import Turn
from appliance.engine.worker import templates
from appliance.engine.worker.prompt import PromptBuilder, PromptError
from tests.fakes.fake_backend import FakeBackend, bytes_of

LOAD = LoadModel("fake", "", 4096, 4, 64, 1, 1, 0, 8, 150_000, 512)
BOS = 300


class BosBackend(FakeBackend):
    """A vocabulary with a BOS token whose text is `<s>`."""

    def tokenize(self, text: str, *, parse_special: bool, add_bos: bool) -> list[int]:
        if parse_special and text.startswith("<s>"):
            return [BOS, *self.tokenize(text[3:], parse_special=True, add_bos=False)]
        tokens = super().tokenize(text, parse_special=parse_special, add_bos=False)
        return [BOS, *tokens] if add_bos else tokens


def render(template: str, *turns: Turn) -> str:
    backend = FakeBackend(LOAD)
    backend.model = replace(backend.model, template=template)
    return bytes_of(PromptBuilder(backend).build(turns)).decode()


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (
            "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}{% endfor %}",
            "b",
        ),
        ("{{ messages[0] | tojson }}", '{"role": "user", "content": "é"}'),
        ("{{ messages[0] | tojson(indent=1) }}", '{\n "role": "user",\n "content": "é"\n}'),
        ("{{ messages[0].content | tojson(ensure_ascii=True) }}", '"\\u00e9"'),
        ("{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':')) }}", '{"a":2,"b":1}'),
        ("{{ strftime_now('%Y') | length }}", "4"),
        ("  {% if tools is none %}\nno tools\n  {% endif %}\n", "no tools\n"),
        ("{{ messages | map(attribute='role') | tojson }}", '["user", "assistant"]'),
        ("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}", "éb"),
    ],
)
def test_what_common_templates_use(template: str, text: str) -> None:
    """Loop controls, `tojson` with its arguments, `strftime_now`, trimmed blocks, marks for training."""
    assert render(template, Turn("user", "é"), Turn("assistant", "b")) == text


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('canary') }}",
        "{{ 1 // 0 }}",
        "{% for n in range(10 ** 9) %}{% endfor %}",
        "{{ messages.nothing.deeper }}",
        "{{ messages[0].content.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ 'x' * (10 ** 15) }}",
        "{{ messages[0].content + 1 }}",
    ],
)
def test_every_failure_of_a_template_is_the_same_refusal(template: str) -> None:
    """Whatever foreign code raises becomes `template_error`, without its words."""
    with pytest.raises(PromptError) as refused:
        render(template, Turn("user", "canary"))

    assert refused.value.code == "template_error"
    assert "canary" not in str(refused.value)


def test_what_a_template_makes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A template that repeats itself is stopped."""
    monkeypatch.setattr(templates, "MAX_RENDERED_CHARACTERS", 1000)
    with pytest.raises(PromptError) as refused:
        render("{% for n in range(9999) %}xxxxx{% endfor %}", Turn("user", "hi"))

    assert refused.value.code == "template_error"


def test_template_that_does_not_parse_is_an_error_of_the_load() -> None:
    """It is found before the model says that it is ready."""
    with pytest.raises(PromptError):
        render("{% for %}", Turn("user", "hi"))


@pytest.mark.parametrize("writes_bos", [True, False])
@pytest.mark.parametrize("adds_bos", [True, False])
def test_never_two_bos(*, writes_bos: bool, adds_bos: bool) -> None:
    """Where the template writes BOS, or the model wants one, there is one; otherwise none."""
    backend = BosBackend(LOAD)
    text = "{{ bos_token if writes else '' }}".replace("writes", str(writes_bos).lower())
    backend.model = replace(
        backend.model,
        bos_text="<s>",
        adds_bos=adds_bos,
        template=text + "{{ messages[0].content }}",
    )
    for content in ("hi", "<|end|>hi"):
        tokens = PromptBuilder(backend).build([Turn("user", content)])
        assert tokens.count(BOS) == int(writes_bos or adds_bos)
        assert tokens[0] == BOS or not (writes_bos or adds_bos)
