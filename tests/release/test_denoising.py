"""Encoders and encoder-decoders are exported to classes that transformers have."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoTokenizer

from infra.dataset.dataset import Dataset
from lm.models.causal_lm import CausalLM
from lm.models.hf_auto import load_model
from tasks.release.export import ParityError, TrainedModel, export
from tasks.release.model_kinds import kind_of
from tests.lm.corpora import token_shards, tokenizer
from tests.lm.test_denoising import KINDS, model
from tests.release.test_release import trained_files

CLASSES = {
    "bert": "BertForMaskedLM",
    "bert-sinusoidal": "BertForMaskedLM",
    "modernbert": "ModernBertForMaskedLM",
    "t5": "T5ForConditionalGeneration",
}
CASES = [(kind, tied) for kind in KINDS for tied in (True, False) if tied or kind != "t5"]


def far_from_start(kind: str, *, tied: bool) -> CausalLM:
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
    assert not [*(tmp_path / "hf").glob("*.py")]
    auto: Any = getattr(transformers, kind_of(CLASSES[kind]).auto_class)
    loaded: Any = auto.from_pretrained(tmp_path / "hf", local_files_only=True).eval()
    inputs = torch.randint(0, 300, (3, 20))
    with torch.no_grad():
        if kind == "t5":
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
    extra = "<extra_id_0>" if kind == "t5" else "<|mask|>"
    assert fast(f"The miller{extra}").input_ids == [*tokenizer().encode("The miller").ids, 300]
    assert kind == "t5" or fast.mask_token_id == loaded.config.vocab_size - 1


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


def test_a_loaded_folder_is_in_fp32(tokens: Dataset, tmp_path: Path) -> None:
    network = far_from_start("bert", tied=True)
    export(TrainedModel.from_files(trained_files(network, tmp_path, tokens), 0), tmp_path / "hf")
    assert load_model(tmp_path / "hf").dtype == torch.float32
