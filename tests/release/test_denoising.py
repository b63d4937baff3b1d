"""Encoders and encoder-decoders are exported to classes that transformers have."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoTokenizer

from infra.dataset.dataset import Dataset
from lm.models.hf_auto import load_model
from lm.models.neural_lm import NeuralLM
from tasks.release.export import ParityError, TrainedModel, export
from tests.lm.corpora import token_shards, tokenizer
from tests.lm.test_denoising import KINDS, SEQ2SEQ, model
from tests.release.test_release import trained_files

CLASSES = {
    "bert": "BertForMaskedLM",
    "bert-sinusoidal": "BertForMaskedLM",
    "modernbert": "ModernBertForMaskedLM",
    "t5": "T5ForConditionalGeneration",
    "bahdanau": "GRUForConditionalGeneration",
}
CASES = [(kind, tied) for kind in KINDS for tied in (True, False) if tied or kind != "t5"]


def far_from_start(kind: str, *, tied: bool) -> NeuralLM:
    network = model(kind, 300, tie_embeddings=tied)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return network


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return token_shards(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize(("kind", "tied"), CASES)
def test_the_export_says_what_the_training_model_says(
    tokens: Dataset, tmp_path: Path, kind: str, tied: bool
) -> None:
    network = far_from_start(kind, tied=tied)
    trained = TrainedModel.from_files(trained_files(network, tmp_path, tokens), eos=0)
    assert export(trained, tmp_path / "hf") <= 1e-4
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["architectures"] == [CLASSES[kind]]
    modeling_files = ["modeling_seq2seq_gru.py"] if kind == "bahdanau" else []
    assert [path.name for path in (tmp_path / "hf").glob("*.py")] == modeling_files
    loaded: Any = load_model(tmp_path / "hf")
    if not modeling_files:
        auto: Any = getattr(transformers, trained.hf.KIND.auto_class)
        loaded = auto.from_pretrained(tmp_path / "hf", local_files_only=True).eval()
    inputs = torch.randint(0, 300, (3, 20))
    with torch.no_grad():
        if kind in SEQ2SEQ:
            source = torch.randint(0, 300, (3, 9))
            source[0, 5:] = -1
            read = {"input_ids": source.clamp_min(0), "attention_mask": (source >= 0).long()}
            ours = network(inputs, source=source)
            theirs = loaded(**read, decoder_input_ids=inputs).logits
        else:
            ours, theirs = network(inputs), loaded(inputs).logits
    assert ours.abs().max() > 1
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=0)
    fast: Any = AutoTokenizer.from_pretrained(tmp_path / "hf")
    extra = "<extra_id_0>" if kind in SEQ2SEQ else "<|mask|>"
    assert fast(f"The miller{extra}").input_ids == [*tokenizer().encode("The miller").ids, 300]
    assert kind in SEQ2SEQ or fast.mask_token_id == loaded.config.vocab_size - 1


def test_a_tokenizer_that_has_a_mask_of_its_own_gets_another(
    tokens: Dataset, tmp_path: Path
) -> None:
    network = model("modernbert", 302)
    files = trained_files(network, tmp_path, tokens)
    other = tokenizer().from_str(files["tokenizer.json"].decode())
    other.add_special_tokens(["<|mask|>", "<|more|>"])
    trained = TrainedModel.from_files({**files, "tokenizer.json": other.to_str().encode()}, eos=0)
    export(trained, tmp_path / "hf")
    fast: Any = AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert (fast.mask_token, fast.mask_token_id) == ("<_|mask|>", 302)
    # Of an imported tokenizer, whose last ids may be missing, the release would be another model.
    with pytest.raises(ParityError):
        export(TrainedModel.from_files(files, eos=0), tmp_path / "other")


def test_generation_with_a_state_is_generation_from_the_start(
    tokens: Dataset, tmp_path: Path
) -> None:
    network = far_from_start("bahdanau", tied=True)
    export(TrainedModel.from_files(trained_files(network, tmp_path, tokens), 0), tmp_path / "hf")
    loaded = load_model(tmp_path / "hf")
    source = torch.randint(1, 300, (2, 9))
    mask = torch.ones_like(source)
    mask[1, 6:] = 0
    settings = {"attention_mask": mask, "max_new_tokens": 8, "do_sample": False}
    for beams in (1, 3):
        made = [
            loaded.generate(
                source, num_beams=beams, eos_token_id=None, use_cache=use_cache, **settings
            ).tolist()
            for use_cache in (True, False)
        ]
        assert made[0] == made[1]
    alone = loaded.generate(source[1:, :6], max_new_tokens=8, do_sample=False, eos_token_id=None)
    greedy = loaded.generate(source, eos_token_id=None, **settings)
    assert greedy[1].tolist() == alone[0].tolist()
    labels = torch.tensor([[5, 6, -100], [7, 8, 9]])
    with torch.no_grad():
        loss = loaded(input_ids=source, attention_mask=mask, labels=labels).loss
        ours = network(
            torch.tensor([[0, 5, 6], [0, 7, 8]]),
            labels,
            source=torch.where(mask == 1, source, -1),
        )
    torch.testing.assert_close(loss, ours / 5)
    with pytest.raises(ValueError, match="padding"):
        loaded(input_ids=source, attention_mask=1 - mask, labels=labels)


def test_a_loaded_folder_is_in_fp32(tokens: Dataset, tmp_path: Path) -> None:
    network = far_from_start("bert", tied=True)
    export(TrainedModel.from_files(trained_files(network, tmp_path, tokens), 0), tmp_path / "hf")
    assert load_model(tmp_path / "hf").dtype == torch.float32
