"""One number for the size of a decoder: nanochat's rules for everything that follows from its depth.

From https://github.com/karpathy/nanochat at 92d63d4 (scripts/base_train.py), whose reference, depth 12,
was tuned by experiments:

    hidden_size   64 depth, rounded up to a multiple of the head size 128
    tokens        D = 12 N, N the parameters of the blocks' matrices and of the head
    batch         B = 2^19 tokens (D / D_12)^0.383, to the nearest power of two (Bergsma et al. 2025, 2505.13738)
    lr            of a matrix 0.02 sqrt(B / 2^19)

There an update of a square matrix has the spectral norm lr, here 0.2 sqrt(hidden_size) lr (``lm.optim``):
the rate is divided by that, so the same step is taken.
"""

import math
from collections.abc import Mapping
from typing import Any

from lm.models.decoder.gpt2.config import GPT2Config
from lm.models.decoder.llama.config import LlamaConfig
from lm.models.decoder.sections import DecoderConfig

MAX_DEPTH = 256
ASPECT_RATIO, HEAD_SIZE = 64, 128
TOKENS_PER_PARAMETER = 12
REFERENCE_DEPTH, REFERENCE_BATCH_TOKENS, REFERENCE_LR = 12, 1 << 19, 0.02
BATCH_EXPONENT = 0.383
UPDATE_SCALE = 0.2  # of Muon, see above
# What depth decides, unless the entry gives it.
DERIVED_KEYS = (
    ("model", "num_layers"),
    ("model", "hidden_size"),
    ("model", "num_heads"),
    ("data", "train_tokens"),
    ("data", "global_batch_size"),
    ("optim", "lr"),
)

Section = Mapping[str, Any]


def _num_heads(width: Any) -> int:
    """Return the number of heads whose even size divides the width and is the nearest to the rule's."""
    if type(width) is not int or width < 2:  # validation will say so
        return 1
    sizes = [size for size in range(2, width + 1, 2) if width % size == 0] or [width]
    return width // min(sizes, key=lambda size: abs(size - HEAD_SIZE))


def derive_from_depth(
    depth: int, vocab_size: int, num_processes: int, model: Section, data: Section
) -> dict[str, dict[str, Any]]:
    """Return what follows from a depth, by section and key.

    Args:
        depth: number of layers.
        vocab_size: number of token ids.
        num_processes: of which the sequences per step are a multiple.
        model: the entry's own keys of this section. They win: what follows from them follows from
            the given values.
        data: the same for this section.

    Raises:
        pydantic.ValidationError: if the section ``model`` is wrong.
    """
    shape = {"num_layers": depth, "hidden_size": hidden_size(depth)}
    width = model.get("hidden_size", shape["hidden_size"])
    shape["num_heads"] = _num_heads(width)
    section = GPT2Config if model.get("architecture") == "gpt2" else LlamaConfig
    config = section.model_validate({**shape, **model}).resolve(vocab_size)
    tokens = int(data.get("train_tokens", TOKENS_PER_PARAMETER * scaling_parameters(config)))
    reference = {
        "num_layers": REFERENCE_DEPTH,
        "hidden_size": hidden_size(REFERENCE_DEPTH),
        "num_heads": hidden_size(REFERENCE_DEPTH) // HEAD_SIZE,
        "architecture": config.architecture,
    }
    at_reference = TOKENS_PER_PARAMETER * scaling_parameters(
        section.model_validate(reference).resolve(vocab_size)
    )
    best = REFERENCE_BATCH_TOKENS * (tokens / at_reference) ** BATCH_EXPONENT
    batch_tokens = 2 ** round(math.log2(best))
    per_process = max(1, round(batch_tokens / config.context_length / num_processes))
    batch = int(data.get("global_batch_size", per_process * num_processes))
    ratio = batch * config.context_length / REFERENCE_BATCH_TOKENS
    lr = REFERENCE_LR * math.sqrt(ratio) / (UPDATE_SCALE * math.sqrt(config.hidden_size))
    return {
        "model": shape,
        "data": {"train_tokens": tokens, "global_batch_size": batch},
        "optim": {"lr": float(f"{lr:.4g}")},
    }


def hidden_size(depth: int) -> int:
    """Return the width of a depth: a multiple of the head size."""
    return -(-depth * ASPECT_RATIO // HEAD_SIZE) * HEAD_SIZE


def scaling_parameters(config: DecoderConfig) -> int:
    """Return the parameters of the blocks' matrices and of the head, tied or not."""
    kv_size = config.num_kv_heads * config.head_dim
    attention = 2 * config.hidden_size * (config.hidden_size + kv_size)
    ffn = (3 if config.architecture == "llama" else 2) * config.hidden_size * config.ffn_size
    return config.num_layers * (attention + ffn) + config.vocab_size * config.hidden_size
