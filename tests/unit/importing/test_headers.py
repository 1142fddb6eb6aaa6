"""What a model's files say of themselves, read before anything native runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.core import Purpose
from appliance.errors import RequestError
from appliance.importing import headers, importing, licences
from appliance.importing.refusals import FileRefused
from tests.ggufs import Value, Weights, make
from tests.hostile import N_VOCAB, lora, split, tensors, tiny


def offered(folder: Path, keys: dict[str, Value], weights: list[Weights] | None = None) -> headers.Offered:
    """A file on the medium, its header read."""
    file = folder / "tiny.gguf"
    file.write_bytes(make(keys, tensors() if weights is None else weights).data)
    return importing.read(file)


def refusal(folder: Path, keys: dict[str, Value], wanted: Purpose | None = None) -> str:
    """The code with which a file is refused; empty where it is not."""
    try:
        headers.check(offered(folder, keys), wanted)
    except FileRefused as error:
        return error.code
    return ""


def test_a_good_file_says_what_it_is(tmp_path: Path) -> None:
    """Its card is what people and the catalogue want of the header."""
    found = offered(tmp_path, tiny())

    assert headers.check(found, None) is Purpose.CHAT
    card = headers.card_of(found)
    assert (card.architecture, card.quantization, card.n_ctx_train, card.num_tokens) == (
        "llama",
        "F32",
        256,
        N_VOCAB,
    )
    assert card.num_parameters == sum(each.num_elements for each in found.tensors)
    assert len(card.template_sha256) == 64


@pytest.mark.parametrize(
    ("changes", "purpose"),
    [
        ({}, Purpose.CHAT),
        ({"llama__pooling_type": 1}, Purpose.EMBEDDING),
        ({"llama__pooling_type": 4}, Purpose.RERANK),
        ({"llama__pooling_type": 0}, Purpose.CHAT),
    ],
)
def test_the_header_says_what_a_model_is_for(
    tmp_path: Path, changes: dict[str, Value], purpose: Purpose
) -> None:
    """A pooling that is named is for vectors, or for scores."""
    assert headers.check(offered(tmp_path, tiny(**changes)), None) is purpose


def test_a_purpose_can_be_given_but_not_to_an_adapter(tmp_path: Path) -> None:
    """A chat model can make vectors; a LoRA file is nothing by itself."""
    assert (
        headers.check(offered(tmp_path, tiny(tokenizer__chat_template=None)), Purpose.EMBEDDING)
        is Purpose.EMBEDDING
    )
    assert refusal(tmp_path, tiny(), Purpose.ADAPTER) == "wrong_purpose"
    (tmp_path / "lora.gguf").write_bytes(lora().data)
    with pytest.raises(FileRefused) as refused:
        headers.check(importing.read(tmp_path / "lora.gguf"), Purpose.CHAT)
    assert refused.value.code == "wrong_purpose"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"llama__rope__freq_base": float("nan")}, "bad_header"),
        ({"tokenizer__ggml__scores": [float("inf")] * N_VOCAB}, "bad_header"),
        ({"llama__block_count": 0}, "bad_header"),
        ({"llama__context_length": None}, "bad_header"),
        ({"tokenizer__ggml__tokens": ["a"]}, "bad_tokenizer"),
        ({"tokenizer__ggml__tokens": None}, "bad_tokenizer"),
        ({"tokenizer__ggml__scores": [0.5]}, "bad_tokenizer"),
        ({"tokenizer__ggml__eos_token_id": N_VOCAB}, "bad_tokenizer"),
        ({"tokenizer__chat_template": None}, "no_template"),
        ({"tokenizer__chat_template": "x" * (2**20 + 1)}, "bad_template"),
        ({"general__type": "adapter"}, "bad_adapter"),
    ],
)
def test_what_can_not_be_true_is_refused(tmp_path: Path, changes: dict[str, Value | None], code: str) -> None:
    """By a code of its own, before llama.cpp sees the file."""
    assert refusal(tmp_path, tiny(**changes)) == code


def test_a_split_model_is_taken_whole_and_from_its_beginning(tmp_path: Path) -> None:
    """All its parts, in order; a later part, a missing one and one of another model are refused by name."""
    files = split(tmp_path)
    found = importing.read(files[0])
    assert found.files == tuple(files)
    assert headers.check(found, None) is Purpose.CHAT
    assert {each.name for each in found.tensors} == {each.name for each in tensors()}

    with pytest.raises(FileRefused, match="later part"):
        importing.read(files[1])
    renamed = tmp_path / "tiny.gguf"
    renamed.write_bytes(files[0].read_bytes())
    with pytest.raises(FileRefused, match="does not say of how many"):
        importing.read(renamed)
    files[2].write_bytes(split(tmp_path, "other", 2)[1].read_bytes())
    with pytest.raises(FileRefused, match=r"belongs to another model|all tensors together"):
        headers.check(importing.read(files[0]), None)
    files[2].unlink()
    with pytest.raises(FileRefused, match="can not be read"):
        importing.read(files[0])


@pytest.mark.parametrize(
    ("said", "given", "is_accepted", "expected"),
    [
        ("apache-2.0", "", False, "Apache-2.0"),
        ("", "mit", False, "MIT"),
        ("apache-2.0", "Apache-2.0", False, "Apache-2.0"),
        ("llama3.1", "", True, "llama3.1"),
        ("llama3.1", "", False, "licence_not_accepted"),
        ("llama3.1", "MIT", True, "licence_differs"),
        ("", "", True, "licence_unknown"),
        ("other", "", True, "licence_unknown"),
        ("", "other", True, "licence_unknown"),
        ("", "ours\n", True, "ours"),
        ("mit\u202e", "", False, "licence_unknown"),
    ],
)
def test_a_licence_is_free_accepted_or_in_the_way(
    said: str,
    given: str,
    is_accepted: bool,  # noqa: FBT001 - a case of the table
    expected: str,
) -> None:
    """What the file says holds; what binds asks for somebody's yes; nothing is taken without one."""
    try:
        found = licences.settle(licences.canonical(said), given, is_accepted=is_accepted)
    except FileRefused as error:
        found = error.code

    assert found == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct.q4_1"),
        ("big model (1).gguf", "big-model-1"),
        ("big-00001-of-00003.gguf", "big"),
        ("-.gguf", "invalid_id"),
    ],
)
def test_an_id_comes_from_the_files_name(name: str, expected: str) -> None:
    """In the letters that ids have."""
    try:
        found = importing.id_for(Path(name))
    except RequestError as error:
        found = error.code

    assert found == expected
