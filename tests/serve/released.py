"""Released folders of tiny random models, whose logits are far apart, one per family and size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from lm.models.heads.config import describe
from lm.models.neural_lm import NeuralLM
from lm.models.registry import build_model
from lm.train.pretraining import save_reference_logits
from tasks.release.export import TrainedModel, export
from tests.lm.corpora import tiny, tokenizer

Releases = Callable[[str], Path]  # the folder of a model of MODELS
EOS, VOCAB_SIZE, CONTEXT_LENGTH = 0, 300, 64
MODELS: dict[str, dict[str, Any]] = {
    "llama": {"num_kv_heads": 2},
    "llama-long": {"num_kv_heads": 2, "context_length": 4096},
    "llama-untied": {"num_kv_heads": 4, "tie_embeddings": False},
    "gpt2": {"architecture": "gpt2", "num_kv_heads": None, "bias": True},
    "gpt2-sinusoidal": {"architecture": "gpt2", "num_kv_heads": None, "positions": "sinusoidal"},
    **{
        family: {"family": family, "num_kv_heads": None, "num_heads": None}
        for family in ("rnn", "lstm", "gru", "cnn")
    },
    "t5": {"family": "seq2seq", "architecture": "t5", "num_kv_heads": None},
    "bahdanau": {
        "family": "seq2seq",
        "architecture": "gru",
        "num_kv_heads": None,
        "num_heads": None,
    },
    "modernbert": {"family": "encoder", "architecture": "modernbert", "num_kv_heads": None},
    "bert": {"family": "encoder", "architecture": "bert", "num_kv_heads": None},
}
CAUSAL = ("llama", "llama-untied", "gpt2", "gpt2-sinusoidal", "rnn", "lstm", "gru", "cnn")
SEQ2SEQ = ("t5", "bahdanau")
ENCODERS = ("modernbert", "bert")


def random_model(name: str) -> NeuralLM:
    """Return a model whose predictions differ from token to token."""
    torch.manual_seed(5)
    section = tiny(**{"context_length": CONTEXT_LENGTH, **MODELS[name]}).model
    model = build_model(section.resolve(VOCAB_SIZE))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return model


def release(name: str, folder: Path) -> Path:
    """Export a model of ``MODELS`` and return its folder."""
    return release_model(random_model(name), folder)


def release_model(model: NeuralLM, folder: Path) -> Path:
    """Export a model and return its folder."""
    save_reference_logits(model, folder.parent / "logits")
    trained = TrainedModel(
        describe(model.config, None),
        model.saved_weights(),
        load_file(folder.parent / "logits"),
        tokenizer().to_str().encode(),
        EOS,
    )
    export(trained, folder)
    return folder


def generate_greedily(model: Any, prompts: torch.Tensor, tokens: int) -> list[list[int]]:
    """Return what transformers continue prompts with, int64[B, T], up to the end of text."""
    with torch.no_grad():
        made = model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=EOS,
        ).tolist()
    read = 1 if model.config.is_encoder_decoder else prompts.shape[1]
    return [until_end(ids[read:]) for ids in made]


def until_end(ids: list[int]) -> list[int]:
    """Return token ids up to the first end of text, which is included."""
    return ids[: ids.index(EOS) + 1] if EOS in ids else ids
