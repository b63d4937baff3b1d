"""GGUF and ONNX: the files that llama.cpp and onnxruntime load say what the trained model says."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infra.dataset.dataset import Dataset
from infra.errors import UserError
from lm.models.decoder.llama import gguf as llama_gguf
from lm.models.hf_auto import load_model
from lm.scoring.huggingface import HuggingFaceModel
from tasks.release import task
from tasks.release.export import ParityError, TrainedModel, export
from tasks.release.formats import gguf, onnx
from tasks.release.formats.gguf import check_gguf, write_gguf
from tasks.release.formats.onnx import check_onnx, compare_int8, write_int8, write_onnx
from tasks.release.formats.supported import format_errors
from tests.lm.corpora import context, texts, token_shards, tokenizer
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
    formats = ("gguf", "int8")
    spec = task.spec(ctx, model=model, tokens=tokens, formats=formats)
    assert spec.fingerprint != task.spec(ctx, model=model, tokens=tokens).fingerprint
    release = task.build(ctx, spec, model=model, tokens=tokens, formats=formats)
    names = {file.name for file in release.manifest.files.values()}
    assert {"model.gguf", "model.int8.onnx", "model.safetensors", "README.md"} <= names
    assert "model.onnx" not in names
    stats: Any = release.stats["formats"]
    assert stats["gguf"]["largest_logprob_difference"] <= 1e-3
    assert stats["gguf"]["texts"] > 0
    card = release.read("README.md").decode()
    assert "`model.gguf`" in card
    assert f"{stats['int8']['bits_per_byte']:.4f} bits per byte" in card
    assert "convert_hf_to_gguf" not in card
    again = task.build(ctx, spec, model=model, tokens=tokens, formats=formats)
    assert again.content == release.content


@pytest.fixture(scope="module")
def onnx_folder(tokens: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A released folder with ``model.onnx``."""
    made = tmp_path_factory.mktemp("onnx")
    export(trained(tokens, made), made / "hf")
    write_onnx(made / "hf")
    return made


def test_onnxruntime_says_what_the_trained_model_says(tokens: Dataset, onnx_folder: Path) -> None:
    model = trained(tokens, onnx_folder)
    path = onnx_folder / "hf" / "model.onnx"
    assert check_onnx(model, path) <= 1e-4
    # For batches and lengths other than that of the export.
    session, plain = onnx._open(path), load_model(onnx_folder / "hf")
    for shape in ((1, 1), (3, 5)):
        ids = torch.randint(0, 300, shape)
        with torch.no_grad():
            expected = plain(input_ids=ids).logits
        torch.testing.assert_close(torch.from_numpy(onnx._run(session, ids.numpy())), expected)
    other = {**model.reference_logits, "logits": model.reference_logits["logits"].flip(-1)}
    with pytest.raises(ParityError, match=r"model\.onnx"):
        check_onnx(replace(model, reference_logits=other), path)
    # Nothing in it says on which machine it was made.
    assert b"site-packages" not in path.read_bytes()
    assert str(onnx_folder).encode() not in path.read_bytes()


def test_the_loss_of_int8_is_measured_on_the_same_text(onnx_folder: Path) -> None:
    path = onnx_folder / "hf" / "model.onnx"
    int8 = write_int8(path)
    scorer = HuggingFaceModel(onnx_folder / "hf", 0)
    ids_of = [tokenizer().encode(text).ids[: scorer.context_length] for text in texts(8)]
    documents = [(ids, len(tokenizer().decode(ids).encode())) for ids in ids_of]
    found = compare_int8(path, int8, documents, eos=0)
    assert found["bytes"] < found["bytes_fp32"]
    assert found["documents"] == 8
    assert found["loss"] == pytest.approx(found["bits_per_byte"] - found["bits_per_byte_fp32"])
    assert found["loss_low"] <= found["loss"] <= found["loss_high"]
    assert 0 < abs(found["loss"]) < 0.05 * found["bits_per_byte_fp32"]
    same = compare_int8(path, path, documents, eos=0)
    assert same["loss"] == 0
    nats = sum(item.sum() for item in scorer.score_texts([np.array(ids) for ids, _ in documents]))
    size = sum(size for _, size in documents)
    assert found["bits_per_byte_fp32"] == pytest.approx(nats / math.log(2) / size, rel=1e-5)


def test_weights_that_an_onnx_file_cannot_hold_are_refused(
    onnx_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx, "MAX_BYTES", 100)
    with pytest.raises(UserError, match="2 GB"):
        write_onnx(onnx_folder / "hf")


@pytest.mark.parametrize(
    ("package", "formats", "tokenize", "count"),
    [
        ("llama", ["gguf"], TOKENIZE, 0),
        ("gpt2", ["gguf"], TOKENIZE, 1),
        ("llama", ["gguf", "onnx", "int8"], TOKENIZE, 0),
        ("gpt2", ["onnx"], TOKENIZE, 0),
        ("gpt2", ["int8"], TOKENIZE, 1),
        ("lstm", ["onnx", "int8"], TOKENIZE, 2),
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
