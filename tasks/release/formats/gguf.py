"""Write a Llama export as GGUF, and check it in llama.cpp.

llama.cpp's own converter knows tokenizers by a hash of their vocabulary and refuses all others, so the file is
written here, by its specification (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from lm.models.hf_auto import load_with_tokenizer
from tasks.release.export import TOKENIZER_SAMPLES, ParityError

FILE = "model.gguf"
TOLERANCE = 1e-3  # of a log-probability
PROMPTS = 4  # prefixes whose next token is predicted
TIMEOUT_S = 600.0
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


def write_gguf(folder: Path, name: str, pre_tokenizer: str) -> Path:
    """Write ``model.gguf`` into an exported folder.

    Args:
        folder: of a ``LlamaForCausalLM``, with ``config.json``, ``model.safetensors`` and ``tokenizer.json``.
        name: of the model.
        pre_tokenizer: llama.cpp's name for the rule by which text is split into words.
    """
    from gguf import GGUFWriter, LlamaFileType

    config = json.loads((folder / "config.json").read_text())
    writer = GGUFWriter(folder / FILE, "llama")
    writer.add_name(name)
    writer.add_context_length(config["max_position_embeddings"])
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
    _add_tokenizer(writer, folder, config, pre_tokenizer)
    weights = load_file(folder / "model.safetensors")
    for name_, tensor in _rename(weights, config).items():
        writer.add_tensor(name_, np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / FILE


def _add_tokenizer(writer: Any, folder: Path, config: Mapping[str, Any], pre: str) -> None:
    from gguf import TokenType

    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokens = [f"[PAD{number}]" for number in range(config["vocab_size"])]
    types = [int(TokenType.UNUSED)] * len(tokens)
    for token, number in tokenizer["model"]["vocab"].items():
        tokens[number], types[number] = token, int(TokenType.NORMAL)
    for added in tokenizer["added_tokens"]:
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], int(kind)
    merges = [
        pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["model"]["merges"]
    ]
    writer.add_tokenizer_model("gpt2")  # a BPE over bytes
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    end = int(config["eos_token_id"])
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
    writer.add_pad_token_id(end)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)


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


def check_gguf(folder: Path, texts: Sequence[str], tokens: torch.Tensor) -> float:
    """Compare ``model.gguf`` in llama.cpp with the exported folder.

    Args:
        folder: the export, with the file.
        texts: to encode.
        tokens: int64[T], of which prefixes are continued.

    Returns:
        The largest difference of a log-probability.

    Raises:
        ParityError: if it is above 1e-3, or a text is encoded differently.
    """
    model, tokenizer = load_with_tokenizer(folder)
    samples = [text for text in (*TOKENIZER_SAMPLES, *texts) if text]
    longest = len(tokens) - 1  # llama.cpp wants room for the next token
    ends = sorted({max(1, longest * part // PROMPTS) for part in range(1, PROMPTS + 1)})
    prompts = [tokens[:end].tolist() for end in ends]
    encoded, predicted = _ask_llama_cpp(folder / FILE, samples, prompts)
    for text, ids in zip(samples, encoded, strict=True):
        if tokenizer.encode(text, verbose=False) != ids:
            raise ParityError(f"release: llama.cpp encodes {text[:80]!r} differently")
    with torch.no_grad():
        logits = model(input_ids=tokens[None]).logits[0].float().log_softmax(-1)
    expected = torch.stack([logits[end - 1] for end in ends])
    difference = float((torch.tensor(predicted) - expected).abs().max())
    if not difference <= TOLERANCE:
        raise ParityError(
            f"release: a log-probability of {FILE} differs by {difference:.3g} in llama.cpp (tolerance "
            f"{TOLERANCE:g}); nothing was released"
        )
    return difference


def _ask_llama_cpp(
    path: Path, texts: Sequence[str], prompts: Sequence[Sequence[int]]
) -> tuple[list[list[int]], list[list[float]]]:
    """Return the ids of texts, and the log-probabilities of every next token, from a process of its own.

    Raises:
        ParityError: if llama.cpp cannot load the file.
    """
    vocabulary = json.loads((path.parent / "tokenizer.json").read_text())["model"]["vocab"]
    plain = next(number for token, number in vocabulary.items() if token.isascii())
    question = json.dumps({"model": str(path), "texts": texts, "prompts": prompts, "plain": plain})
    done = subprocess.run(
        [sys.executable, "-m", "tasks.release.formats.llama_cpp"],
        input=question,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        # The last line of the exception, among the log lines of llama.cpp.
        lines = [line for line in done.stderr.splitlines() if "Error" in line] or ["no message"]
        raise ParityError(f"release: llama.cpp does not load {FILE}: {lines[-1].strip()}")
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    return answer["ids"], answer["logprobs"]
