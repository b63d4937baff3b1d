"""GGUF: the file that llama.cpp loads says what the trained model says."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.dataset.dataset import Dataset
from infra.errors import UserError
from lm.models.decoder.llama import gguf as llama_gguf
from tasks.release import task
from tasks.release.export import ParityError, TrainedModel, export
from tasks.release.formats import gguf
from tasks.release.formats.gguf import check_gguf, write_gguf
from tasks.release.formats.supported import format_errors
from tests.lm.corpora import context, texts, token_shards
from tests.release.test_release import commit_model, decoder, trained_files

TOKENIZE = {"pretokenizer": "gpt2"}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return token_shards(tmp_path_factory.mktemp("store"))


def trained(tokens: Dataset, folder: Path, **changes: Any) -> TrainedModel:
    return TrainedModel.from_files(trained_files(decoder(**changes), folder, tokens), eos=0)


@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": False, "num_kv_heads": 1}])
def test_llama_cpp_says_what_the_trained_model_says(
    tokens: Dataset, tmp_path: Path, changes: dict[str, Any]
) -> None:
    model = trained(tokens, tmp_path, **changes)
    folder = tmp_path / "hf"
    export(model, folder)
    write_gguf(folder, "tiny", "gpt-2")
    ids = model.reference_logits["tokens"][0]
    assert check_gguf(folder, texts(3), ids) <= 1e-3


def test_a_gguf_file_with_other_weights_or_another_tokenizer_is_not_released(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained(tokens, tmp_path)
    folder = tmp_path / "hf"
    export(model, folder)
    ids = model.reference_logits["tokens"][0]
    monkeypatch.setattr(llama_gguf, "_interleave", lambda matrix, heads: matrix)
    write_gguf(folder, "tiny", "gpt-2")
    with pytest.raises(ParityError, match="log-probability"):
        check_gguf(folder, [], ids)
    monkeypatch.undo()
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    value = json.loads((other / "tokenizer.json").read_text())
    value["model"]["merges"] = value["model"]["merges"][:1]
    (other / "tokenizer.json").write_text(json.dumps(value))
    write_gguf(other, "tiny", "gpt-2").rename(folder / gguf.FILE)
    with pytest.raises(ParityError, match="encodes"):
        check_gguf(folder, texts(2), ids)
    (folder / gguf.FILE).write_bytes(b"no file of this kind")
    with pytest.raises(ParityError, match="does not load"):
        check_gguf(folder, [], ids)


def test_a_release_has_the_formats_of_the_recipe(tokens: Dataset, tmp_path: Path) -> None:
    ctx = context(tmp_path / "store")
    config = {**tokens.manifest.config, **TOKENIZE}
    tokens = replace(tokens, manifest=replace(tokens.manifest, config=config))
    model = commit_model(ctx, tokens, tmp_path, decoder())
    spec = task.spec(ctx, model=model, tokens=tokens, formats=("gguf",))
    assert spec.fingerprint != task.spec(ctx, model=model, tokens=tokens).fingerprint
    release = task.build(ctx, spec, model=model, tokens=tokens, formats=("gguf",))
    names = {file.name for file in release.manifest.files.values()}
    assert {"model.gguf", "model.safetensors", "README.md"} <= names
    stats: Any = release.stats["formats"]
    assert stats["gguf"]["largest_logprob_difference"] <= 1e-3
    assert stats["gguf"]["texts"] > 0
    card = release.read("README.md").decode()
    assert "`model.gguf`" in card
    assert "convert_hf_to_gguf" not in card
    again = task.build(ctx, spec, model=model, tokens=tokens, formats=("gguf",))
    assert again.content == release.content


@pytest.mark.parametrize(
    ("package", "formats", "tokenize", "count"),
    [
        ("llama", ["gguf"], TOKENIZE, 0),
        ("gpt2", ["gguf"], TOKENIZE, 1),
        ("lstm", ["gguf"], TOKENIZE, 1),
        ("llama", ["gguf"], {"pretokenizer": "unicode"}, 1),
        ("llama", ["gguf"], {**TOKENIZE, "digits": "single"}, 1),
    ],
)
def test_a_model_that_cannot_have_a_format_is_refused(
    package: str, formats: list[str], tokenize: dict[str, Any], count: int
) -> None:
    errors = format_errors("tiny", package, formats, tokenize)
    assert len(errors) == count
    assert all(isinstance(error, UserError) for error in errors)
