"""Write the weights of a Llama export as GGUF.

By its specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md: llama.cpp's own converter knows
tokenizers by a hash of their vocabulary and refuses all others.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_TOP_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def write_llama_gguf(
    folder: Path,
    path: Path,
    name: str,
    add_tokenizer: Callable[[Any, Mapping[str, Any]], None],
    context_length: int | None = None,
) -> None:
    """Write a file for llama.cpp, in fp32.

    Args:
        folder: of a ``LlamaForCausalLM``, with ``config.json`` and ``model.safetensors``.
        path: of the file.
        name: of the model.
        add_tokenizer: writes the tokenizer; gets a ``gguf.GGUFWriter`` and the content of ``config.json``.
        context_length: by default the model's.
    """
    from gguf import GGUFWriter, LlamaFileType

    config = json.loads((folder / "config.json").read_text())
    writer = GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_context_length(context_length or config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(float(config["rope_theta"]))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(int(LlamaFileType.ALL_F32))
    add_tokenizer(writer, config)
    weights = load_file(folder / "model.safetensors")
    for name_, tensor in _rename(weights, config).items():
        writer.add_tensor(name_, np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _rename(weights: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights as arrays by llama.cpp's names."""
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    renamed = {}
    for name, tensor in weights.items():
        path = name.removesuffix(".weight")
        if path in _TOP_NAMES:
            renamed[f"{_TOP_NAMES[path]}.weight"] = tensor.float().numpy()
            continue
        _, _, layer, part = path.split(".", 3)
        short = _LAYER_NAMES[part]
        array = tensor.float().numpy()
        if short in heads:
            array = _interleave(array, heads[short])
        renamed[f"blk.{layer}.{short}.weight"] = array
    return renamed


def _interleave(matrix: Any, heads: int) -> Any:
    """Reorder the rows of a head: transformers rotate pairs (i, i + E/2), llama.cpp (2i, 2i + 1)."""
    rows, columns = matrix.shape
    halves = matrix.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)
