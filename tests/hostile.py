"""Files and templates that nobody should take: cut, mutated, untrue, and made to hurt whoever opens them.

`python -m tests.tools.hostile` takes each of them through the whole way of an import, and prints what became
of it; the suite takes some of them (tests/integration/test_import.py).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.ggufs import Field, File, Typed, Value, Weights, make

TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>"
N_EMBD, N_FF, N_VOCAB = 32, 64, 3 + 256 + 95
_NAN = float("nan")
_LETTERS = ["\u2581", *(chr(each) for each in range(33, 127))]


def tiny(**changes: Value | None) -> dict[str, Value]:
    """The keys of a model that llama.cpp loads in no time; None takes one away."""
    keys: dict[str, Value | None] = {
        "general.architecture": "llama",
        "general.name": "made for a test",
        "general.license": "apache-2.0",
        "general.file_type": 0,
        "llama.block_count": 1,
        "llama.context_length": 256,
        "llama.embedding_length": N_EMBD,
        "llama.feed_forward_length": N_FF,
        "llama.attention.head_count": 2,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": 16,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [
            *("<unk>", "<s>", "</s>"),
            *(f"<0x{byte:02X}>" for byte in range(256)),
            *_LETTERS,
        ],
        "tokenizer.ggml.scores": [-float(at) for at in range(N_VOCAB)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": TEMPLATE,
    }
    return {name: value for name, value in (keys | _dotted(changes)).items() if value is not None}


def tensors(n_vocab: int = N_VOCAB) -> list[Weights]:
    """Its weights, all of them zero."""
    found = [Weights("token_embd.weight", (N_EMBD, n_vocab)), Weights("output_norm.weight", (N_EMBD,))]
    square = ("attn_q", "attn_k", "attn_v", "attn_output")
    found += [Weights(f"blk.0.{name}.weight", (N_EMBD, N_EMBD)) for name in square]
    found += [Weights(f"blk.0.{name}.weight", (N_EMBD,)) for name in ("attn_norm", "ffn_norm")]
    found += [Weights(f"blk.0.{name}.weight", (N_EMBD, N_FF)) for name in ("ffn_gate", "ffn_up")]
    return [*found, Weights("blk.0.ffn_down.weight", (N_FF, N_EMBD))]


def on_medium(folder: Path, name: str = "tiny.gguf", **changes: Any) -> Path:
    """The tiny model, as somebody brings it."""
    file = folder / name
    file.write_bytes(make(tiny(**changes), tensors()).data)
    return file


def lora(rank: int = 4, **changes: Value | None) -> File:
    """An adapter for the tiny model."""
    keys: dict[str, Value | None] = {
        "general.type": "adapter",
        "general.architecture": "llama",
        "general.license": "mit",
        "adapter.type": "lora",
        "adapter.lora.alpha": 8.0,
    }
    return make(
        {name: value for name, value in (keys | _dotted(changes)).items() if value is not None},
        [
            Weights("blk.0.attn_q.weight.lora_a", (N_EMBD, rank)),
            Weights("blk.0.attn_q.weight.lora_b", (rank, N_EMBD)),
        ],
    )


def split(folder: Path, name: str = "tiny", parts: int = 3) -> list[Path]:
    """The tiny model in several files, as llama.cpp's own program splits it."""
    whole = tensors()
    made = []
    for at in range(parts):
        told: dict[str, Value] = {
            "split.no": Typed(2, "<H", at),
            "split.count": Typed(2, "<H", parts),
            "split.tensors.count": Typed(5, "<i", len(whole)),
        }
        keys = {**tiny(), **told} if at == 0 else told
        made.append(folder / f"{name}-{at + 1:05}-of-{parts:05}.gguf")
        made[-1].write_bytes(make(keys, whole[at::parts]).data)
    return made


def _dotted(changes: Mapping[str, Value | None]) -> dict[str, Value | None]:
    """`llama__block_count` for `llama.block_count`."""
    return {name.replace("__", "."): value for name, value in changes.items()}


def spoilt(file: File, keys: Mapping[str, Value]) -> Iterator[tuple[str, bytes]]:
    """A good file, made wrong in one place: cut at every field, and each field that has a wrong value."""
    good = bytes(file.data)
    for each in file.fields:
        yield f"cut at {each.at}, before the {each.what} {each.of}", good[: each.at]
    for at in range(1, 9):
        yield f"{at} bytes short", good[:-at]
    for each in file.fields:
        for wrong in _wrong(each, good):
            yield f"{each.what} {each.of} at {each.at} is {wrong.hex()}", altered(good, each, wrong)
    yield "another magic", b"GGML" + good[4:]
    yield "big-endian", good[:4] + struct.pack(">I", 3) + good[8:]
    yield "one key twice", bytes(make({"a.b": 1, "a.c": 1}).data).replace(b"a.c", b"a.b")
    twins = (Weights("one.weight", (32,)), Weights("two.weight", (32,)))
    yield "one tensor twice", bytes(make(tensors=twins).data).replace(b"two.", b"one.")
    for alignment in (0, 1, 4, 24, 33, 2**21, "32", True, 32.0):
        yield f"alignment {alignment!r}", bytes(make({**keys, "general.alignment": alignment}).data)


def _wrong(each: Field, good: bytes) -> list[bytes]:
    huge = [struct.pack("<Q", value) for value in (2**64 - 1, 2**63, 2**60, 2**40, 2**31)]
    (number,) = struct.unpack_from("<Q", good.ljust(each.at + 8, b"\0"), each.at)
    match each.what:
        case "version":
            return [struct.pack("<I", value) for value in (0, 1, 4, 255, 2**32 - 1)]
        case "count" | "length":
            return huge
        case "kind" | "item kind":
            return [struct.pack("<I", value) for value in (13, 99, 2**31, 2**32 - 1)]
        case "truth":
            return [b"\2", b"\xff"]
        case "tensor type":
            return [struct.pack("<I", value) for value in (4, 5, 31, 33, 38, 43, 2**32 - 1)]
        case "dimensions":
            return [struct.pack("<I", value) for value in (0, 5, 2**32 - 1)]
        case "dimension":
            return [struct.pack("<Q", 0), *huge]
        case "offset":
            return [struct.pack("<Q", value) for value in (number + 1, number + 32, 2**63, 2**64 - 32)]
        case "text" if each.of in {"a key", "a tensor"}:
            return [b"\0" * each.size, b"\xff" * each.size, b"\n" * each.size]
    return []


def altered(good: bytes, each: Field, wrong: bytes) -> bytes:
    """The file with other bytes in the place of a field."""
    return good[: each.at] + wrong + good[each.at + each.size :]


def untrue() -> Iterator[tuple[str, bytes]]:
    """Whole files to the letter of the format that say what can not be true, or belong to nothing."""
    changes: list[dict[str, Any]] = [
        *({"llama__block_count": each} for each in (None, 0, 2, 3, 4097, 2**32 - 1, "1", 1.0, True)),
        *({"llama__embedding_length": each} for each in (None, 0, 16, 31, 33, 2**20 + 1, 2**32 - 1, "32")),
        *({"llama__context_length": each} for each in (None, 0, 2**32 - 1, "256", 256.0)),
        *({"llama__attention__head_count": each} for each in (None, 0, 3, 5, 2**31, 2**32 - 1, "2")),
        *({"llama__attention__head_count_kv": each} for each in (0, 3, 2**31, 2**32 - 1)),
        *({"llama__feed_forward_length": each} for each in (0, 32, 65, 2**32 - 1)),
        *({"llama__rope__dimension_count": each} for each in (17, 2**31, 2**32 - 1)),
        *({"llama__rope__freq_base": each} for each in (float("nan"), float("inf"), float("-inf"))),
        *({"llama__attention__layer_norm_rms_epsilon": each} for each in (None, float("nan"), float("inf"))),
        *({"general__architecture": each} for each in (None, "", "nothing", "llama\n", "bert", "clip", 7)),
        *({"tokenizer__ggml__model": each} for each in (None, "", "nothing", "gpt2", "bert", 1)),
        *({"tokenizer__ggml__tokens": each} for each in (None, [], ["a"], ["a"] * (N_VOCAB + 1), "a", 1)),
        *(
            {"tokenizer__ggml__scores": each}
            for each in ([0.5], [0.5] * (N_VOCAB - 1), [float("nan")] * N_VOCAB)
        ),
        *({"tokenizer__ggml__token_type": each} for each in ([1], [1] * (N_VOCAB + 1))),
        *({"tokenizer__ggml__bos_token_id": each} for each in (N_VOCAB, 2**31, 2**32 - 2)),
        *({"tokenizer__ggml__eos_token_id": each} for each in (N_VOCAB, 2**31, 2**32 - 2)),
        {"tokenizer__chat_template": None},
        {"tokenizer__chat_template": ""},
        {"tokenizer__chat_template": 7},
        {"tokenizer__chat_template": "x" * (2**20 + 1)},
        {"general__license": None},
        {"general__license": "other"},
        {"general__license": "a licence that binds"},
        {"general__type": "adapter"},
        {"general__type": "adapter", "adapter__type": "lora"},
        {"split__count": 2},
        {"split__count": 2**16 - 1, "split__no": 0},
        {"split__count": 3, "split__no": 1},
    ]
    for change in changes:
        told = ", ".join(f"{name.replace('__', '.')} = {repr(value)[:30]}" for name, value in change.items())
        yield told, bytes(make(tiny(**change), tensors()).data)
    whole = tensors()
    for at, each in enumerate(whole):
        before, after = whole[:at], whole[at + 1 :]
        yield f"without {each.name}", bytes(make(tiny(), before + after).data)
        turned = Weights(each.name, (each.shape[0] * 2, *each.shape[1:]))
        yield (
            f"{each.name} is twice as wide",
            bytes(make(tiny(), [*before, turned, *after]).data),
        )
        deep = Weights(each.name, (*each.shape, *([1] * (3 - len(each.shape))), 2))
        yield (
            f"{each.name} has four dimensions",
            bytes(make(tiny(), [*before, deep, *after]).data),
        )
        named = Weights(f"x{each.name}", each.shape)
        yield f"{each.name} by another name", bytes(make(tiny(), [*before, named, *after]).data)
    good = make(tiny(), whole)
    for name, bits in (("nan", 0x7FC00000), ("inf", 0x7F800000), ("another nan", 0xFFFFFFFF)):
        yield f"the last weight is {name}", bytes(good.data[:-4]) + struct.pack("<I", bits)
    yield "no tensors", bytes(make(tiny(), ()).data)
    yield "one more tensor", bytes(make(tiny(), [*whole, Weights("blk.7.attn_q.weight", (32, 32))]).data)
    without: list[dict[str, Any]] = [{"adapter__lora__alpha": None}, {"adapter__type": "other"}]
    for change in without:
        yield f"an adapter: {change}", bytes(lora(**change).data)
    yield "an adapter for nobody", bytes(lora().data)
    yield "an empty file", b""
    yield "a text", b"This is no model.\n" * 100
    yield "zeros", bytes(100_000)


_LOOP = "{% for m in messages %}{{ m.content }}{% endfor %}"
_INSIDE = (
    "''.__class__", "().__class__.__bases__[0].__subclasses__()", "messages.__class__.__mro__",
    "self.__init__.__globals__", "lipsum.__globals__['os']", "cycler.__init__.__globals__.os.popen('id')",
    "joiner.__init__.__globals__", "namespace.__init__.__globals__", "range.__self__", "messages|attr('x')",
    "''|attr('__class__')", "''['__class__']", "messages|map(attribute='__class__')|list",
    "messages[0]['__class__']", "raise_exception.__globals__", "strftime_now.__globals__", "''.__doc__",
    "[].__reduce_ex__(2)", "{}.__getattribute__", "(1).__class__", "none.__class__", "true.__class__",
    "''.format.__self__", "messages._x", "loop._x", "dict.__mro__", "''|format(''.__class__)",
    "'{0.__class__}'.format(messages)", "'{0.__class__}'.format_map(messages)", "'%s'|format('__import__')",
)  # fmt: skip
_COSTLY = (
    "{{ 'x' * 99999999999 }}", "{{ 9 ** (9 ** 9) }}", "{{ 'x' * 2 ** 40 }}", "{{ [0] * 10 ** 12 }}",
    "{{ '%999999999d' % 1 }}", "{{ '%*d' % (999999999, 1) }}", "{{ '%999999999d'|format(1) }}",
    "{% for a in range(10 ** 12) %}x{% endfor %}", "{{ range(10 ** 9)|list }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}xxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "{% set n = namespace(x='x') %}{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
    "{% set ns = namespace(x=7) %}{% for a in range(999) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "{{ 'x'.ljust(10 ** 12) }}", "{{ 'x'.zfill(10 ** 12) }}", "{{ 'x'.replace('', 'x' * 10 ** 7) * 10 }}",
    "{{ 'x'|indent(10 ** 12) }}", "{{ lipsum(n=10 ** 9) }}", "{{ 'a'.join(range(10 ** 10)) }}",
    "{{ (1).__class__ }}", "{{ 10 ** 5000 }}", "{{ 'x'|center(10 ** 12) }}", "{{ 1 << 10 ** 10 }}",
)  # fmt: skip
_BROKEN = (
    "{", "{{", "{{ }", "{% if %}", "{% for m in %}{% endfor %}", "{% for m in messages %}", "{% endif %}",
    "{{ messages | nothing }}", "{{ messages is nothing }}", "{% nothing %}", "{{ 'x }}", "{{ 1 + }}",
    "{{ nothing.nothing }}", "{{ raise_exception('never') }}", "{{ 1 / 0 }}", "{{ messages[7].content }}",
    "{{ '(' * 9 }}" + "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "{% if 1 %}" * 500 + "{% endif %}" * 500,
    "{{ " + "-" * 5000 + "1 }}", "{{ " + "[" * 2000 + "]" * 2000 + " }}", "{{ " + "not " * 5000 + "1 }}",
    "no word of the user's", "{{ messages[0].role }}", "{# x", "{% raw %}", "{{ messages() }}",
    "{% set messages = [] %}" + _LOOP, "{{ messages[0].content[3:] }}", "\0", " ",
)  # fmt: skip
_OTHERS = (
    "{% include 'x' %}", "{% include 'http://example.net/x' %}", "{% include '/etc/passwd' %}",
    "{% include ['a', 'b'] ignore missing %}", "{% import 'x' as y %}", "{% from 'x' import y %}",
    "{% from 'http://example.net/x' import y with context %}", "{% extends 'x' %}",
    "{% extends 'file:///etc/shadow' %}", "{% if false %}{% include 'x' %}{% endif %}",
    "{% macro f() %}{% import 'x' as y %}{% endmacro %}", "{% set a %}{% include 'x' %}{% endset %}",
    "{% block b %}{% include messages %}{% endblock %}",
)  # fmt: skip


def templates() -> Iterator[tuple[str, str]]:
    """Templates that reach for what is not theirs, take too much, or are none."""
    for each in _INSIDE:
        yield f"inside: {each}", f"{_LOOP}{{{{ {each} }}}}"
        yield f"inside, where nobody looks: {each}", f"{_LOOP}{{% if false %}}{{{{ {each} }}}}{{% endif %}}"
    for each in _COSTLY:
        yield f"costly: {each[:60]}", _LOOP + each
    for each in _BROKEN:
        yield f"broken: {each[:60]!r}", each
    for each in _OTHERS:
        yield f"another: {each}", _LOOP + each


def corpus() -> Iterator[tuple[str, bytes]]:
    """All of them, as files."""
    good = make(tiny(), tensors())
    yield from ((f"spoilt: {name}", data) for name, data in _some(spoilt(good, tiny()), 150))
    yield from ((f"untrue: {name}", data) for name, data in untrue())
    for name, text in templates():
        yield f"template: {name}", bytes(make(tiny(tokenizer__chat_template=text), tensors()).data)
    for text in _OTHERS[:3]:
        keys = tiny() | {"tokenizer.chat_template.tool_use": text}
        yield f"a template with a name: {text}", bytes(make(keys, tensors()).data)


def _some(found: Iterator[tuple[str, bytes]], count: int) -> list[tuple[str, bytes]]:
    """So many, from everywhere."""
    every = list(found)
    return every[:: max(1, len(every) // count)]
