"""A tiny model, untrained but with opinions, as a Hugging Face folder."""

from pathlib import Path

from infra.dataset.dataset import Dataset
from infra.dataset.manifest import Counts
from infra.dataset.stage import Context, DatasetSpec, Stage, commit_files
from lm.models.model_kind import CAUSAL, ModelKind

CONTEXT = 16
STAGE = Stage("release", ("tests.evaluate.tiny",))


def save(folder: Path, vocabulary: int, seed: int = 0, context: int = CONTEXT) -> Path:
    """Write ``config.json`` and weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=context,
        initializer_range=0.5,
        bos_token_id=0,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def release(ctx: Context, folder: Path, name: str = "tiny", kind: ModelKind = CAUSAL) -> Dataset:
    """The folder as a committed data set."""
    files = {path.name: path for path in sorted(folder.iterdir())}
    spec = DatasetSpec(STAGE, name, {"folder": folder.name})
    return commit_files(ctx, spec, files, counts=Counts(), stats={"kind": kind.name})
