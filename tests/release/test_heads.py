"""Fine-tuned models as folders that transformers load."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, pipeline

from infra.errors import UserError
from lm.models.heads.config import HeadConfig, describe, parse
from lm.models.heads.hf import run_hf_model, to_hf_model
from lm.models.heads.model import FineTuned, reference_outputs
from lm.models.hf_auto import load_model
from lm.models.neural_lm import NeuralLM, save_weights
from lm.models.released import MODEL_CONFIG_KEY, parse_released_config
from lm.models.released_weights import load_released_weights
from lm.objectives.tagging import encode_words
from lm.train.pretraining import save_reference_logits
from tasks.release.export import ParityError, TrainedModel, export
from tasks.release.finetuned import export_finetuned
from tests.lm.corpora import tokenizer
from tests.lm.test_heads import (
    CASES,
    EOS,
    finetuned,
    head_config,
    language_model,
    padded_texts,
    text_encoder,
)
from tests.release import test_denoising


def far_from_start(architecture: str, head: HeadConfig, **section: object) -> FineTuned:
    model = finetuned(architecture, head, **section)
    torch.manual_seed(4)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return model


@pytest.mark.parametrize(("architecture", "task"), CASES)
def test_the_export_says_what_the_training_model_says(
    architecture: str, task: str, tmp_path: Path
) -> None:
    model = far_from_start(architecture, head_config(task))
    exported = to_hf_model(describe(model.config, model.head), model.saved_weights())
    exported.save_pretrained(tmp_path)
    texts = padded_texts()
    with torch.no_grad():
        ours, theirs = model(texts), run_hf_model(load_model(tmp_path), model.head, texts)
    if ours.dim() == 3:
        ours, theirs = (each[texts >= 0] for each in (ours, theirs))
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=0)


def export_of(architecture: str, task: str, folder: Path, **head: object) -> FineTuned:
    """Export a fine-tuned model with the tests' tokenizer."""
    model = far_from_start(architecture, head_config(task, **head), vocab_size=300)
    trained = TrainedModel(
        describe(model.config, model.head),
        model.saved_weights(),
        reference_outputs(model),
        tokenizer().to_str().encode(),
        EOS,
    )
    assert export_finetuned(trained, task, folder) <= 1e-4
    return model


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "llama", "gpt2", "lstm", "cnn"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_a_pipeline_classifies(architecture: str, multi_label: bool, tmp_path: Path) -> None:
    model = export_of(architecture, "classification", tmp_path, multi_label=multi_label)
    encoder, texts = text_encoder(architecture), ["a crow", "the mill turned and turned"]
    rows = torch.from_numpy(encoder.encode(texts, [None, None], 24).rows)
    with torch.no_grad():
        logits = model(rows)
    expected = logits.sigmoid() if multi_label else logits.softmax(-1)
    classify = pipeline(
        "text-classification",
        model=load_model(tmp_path),
        tokenizer=AutoTokenizer.from_pretrained(tmp_path, local_files_only=True),
    )
    found: Any = classify(texts, top_k=None, batch_size=2)
    for scores, own in zip(found, expected, strict=True):
        by_label = {item["label"]: item["score"] for item in scores}
        assert list(model.head.labels) == sorted(by_label, key=model.head.labels.index)
        for label, score in zip(model.head.labels, own.tolist(), strict=True):
            assert by_label[label] == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "llama"])
def test_a_pipeline_tags(architecture: str, tmp_path: Path) -> None:
    model = export_of(architecture, "tagging", tmp_path)
    words = ["the", "crowding", "mill"]
    encoded = encode_words(text_encoder(architecture), [words], [None], 24)
    with torch.no_grad():
        tags = model(torch.from_numpy(encoded.rows))[0].argmax(-1)
    expected = [model.head.labels[number] for number in tags[encoded.first_tokens[0]]]
    tag = pipeline(
        "token-classification",
        model=load_model(tmp_path),
        tokenizer=AutoTokenizer.from_pretrained(tmp_path, local_files_only=True),
        ignore_labels=[],
    )
    text = " ".join(words)
    starts = [text.index(word) for word in words]
    items: Any = tag(text)
    found = {
        item["start"] + (text[item["start"]] == " "): item["entity"]
        for item in items
        if item["word"].strip("Ġ")
    }
    assert [found[start] for start in starts] == expected


def test_an_embedding_is_the_mean_of_the_states(tmp_path: Path) -> None:
    model = export_of("modernbert", "embedding", tmp_path)
    extract = pipeline(
        "feature-extraction",
        model=load_model(tmp_path),
        tokenizer=AutoTokenizer.from_pretrained(tmp_path, local_files_only=True),
    )
    states = torch.tensor(extract("a crow")[0]).mean(0)
    rows = torch.from_numpy(text_encoder("bert").encode(["a crow"], [None], 24).rows)
    with torch.no_grad():
        torch.testing.assert_close(states / states.norm(), model(rows)[0], atol=1e-4, rtol=0)
    assert json.loads((tmp_path / "modules.json").read_bytes())[1]["path"] == "1_Pooling"


def test_a_model_that_says_something_else_is_not_released(tmp_path: Path) -> None:
    model = far_from_start("bert", head_config("classification"), vocab_size=300)
    outputs = reference_outputs(model)
    weights = model.saved_weights()
    weights["blocks.0.qkv.weight"] = weights["blocks.0.qkv.weight"].roll(1, 0)
    data = tokenizer().to_str().encode()
    wrong = TrainedModel(describe(model.config, model.head), weights, outputs, data, EOS)
    with pytest.raises(ParityError):
        export_finetuned(wrong, "classification", tmp_path)


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "llama", "gpt2", "lstm", "cnn"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_released_language_model_is_loaded_as_it_was_trained(
    architecture: str, tied: bool, tmp_path: Path
) -> None:
    base = language_model(architecture, vocab_size=300, tie_embeddings=tied)
    save_weights(base, tmp_path / "weights")
    weights = load_file(tmp_path / "weights")
    check_round_trip(base, weights, tmp_path / "hf")


@pytest.mark.parametrize("kind", ["t5", "bahdanau"])
def test_a_released_encoder_decoder_is_loaded_as_it_was_trained(kind: str, tmp_path: Path) -> None:
    base = test_denoising.far_from_start(kind, tied=True)
    check_round_trip(base, base.saved_weights(), tmp_path / "hf")


def check_round_trip(base: NeuralLM, weights: dict[str, torch.Tensor], folder: Path) -> None:
    save_reference_logits(base, folder.parent / "logits")
    reference = load_file(folder.parent / "logits")
    data = tokenizer().to_str().encode()
    export(TrainedModel(describe(base.config, None), weights, reference, data, EOS), folder)
    loaded = parse_released_config((folder / "config.json").read_bytes(), "here")
    content = (folder / "model.safetensors").read_bytes()
    found = load_released_weights(content, loaded.model_config, "here")
    assert set(found) == set(weights)
    for name, weight in weights.items():
        assert torch.equal(found[name], weight), name
    assert parse(loaded.model_config) == (base.config, None)
    assert loaded.eos_id == EOS


def test_folders_that_are_no_base_are_refused(tmp_path: Path) -> None:
    export_of("bert", "classification", tmp_path)
    with pytest.raises(UserError):
        parse_released_config((tmp_path / "config.json").read_bytes(), "here")
    config = json.loads((tmp_path / "config.json").read_bytes())
    del config[MODEL_CONFIG_KEY]
    for content in (json.dumps(config), "[]", "{"):
        with pytest.raises(UserError):
            parse_released_config(content.encode(), "here")


def test_weights_that_do_not_fit_their_sizes_are_refused(tmp_path: Path) -> None:
    base = language_model("lstm", vocab_size=300)
    check_round_trip(base, base.saved_weights(), tmp_path / "hf")
    config = parse_released_config((tmp_path / "hf" / "config.json").read_bytes(), "here")
    content = (tmp_path / "hf" / "model.safetensors").read_bytes()
    wider = {**config.model_config, "vocab_size": 301}
    for weights, sizes in ((content, wider), (content[:100], config.model_config)):
        with pytest.raises(UserError):
            load_released_weights(weights, sizes, "here")
