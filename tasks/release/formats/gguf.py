"""Write a Llama export as GGUF, and check it in llama.cpp."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lm.models.decoder.llama.gguf import write_llama_gguf
from lm.models.hf_auto import load_with_tokenizer
from tasks.release.export import TOKENIZER_SAMPLES, ParityError

FILE = "model.gguf"
TOLERANCE = 1e-3  # of a log-probability
PROMPTS = 4  # prefixes whose next token is predicted
TIMEOUT_S = 600.0


def write_gguf(folder: Path, name: str, pre_tokenizer: str) -> Path:
    """Write ``model.gguf`` into an exported folder.

    Args:
        folder: of a ``LlamaForCausalLM``, with ``config.json``, ``model.safetensors`` and ``tokenizer.json``.
        name: of the model.
        pre_tokenizer: llama.cpp's name for the rule by which text is split into words.
    """
    write_llama_gguf(
        folder,
        folder / FILE,
        name,
        lambda writer, config: _add_tokenizer(writer, folder, config, pre_tokenizer),
    )
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
