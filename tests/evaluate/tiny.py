"""A tiny model, untrained but with opinions, and a tokenizer of bytes, as a Hugging Face folder."""

from pathlib import Path
from typing import Any

from infra.dataset.dataset import Dataset
from infra.dataset.manifest import Counts
from infra.dataset.stage import Context, DatasetSpec, Stage, commit_files
from lm.models.model_kind import CAUSAL, ModelKind

CONTEXT = 16
STAGE = Stage("release", ("tests.evaluate.tiny",))


def save(folder: Path, vocabulary: int, seed: int = 0, context: int = CONTEXT) -> Path:
    """Write ``config.json``, weights and the tokenizer."""
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
    _save_tokenizer(folder, context)
    return folder


def _save_tokenizer(folder: Path, context: int) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    plain = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, []))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    fast: Any = PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token=names[0], eos_token=names[0], model_max_length=context
    )
    fast.save_pretrained(folder)


def release(
    ctx: Context,
    folder: Path,
    name: str = "tiny",
    kind: ModelKind = CAUSAL,
    parameters: int = 10_000,
) -> Dataset:
    """The folder as a committed data set."""
    files = {path.name: path for path in sorted(folder.iterdir())}
    spec = DatasetSpec(STAGE, name, {"folder": folder.name, "parameters": parameters})
    stats = {"kind": kind.name, "parameters": parameters}
    return commit_files(ctx, spec, files, counts=Counts(), stats=stats)
