"""Add the formats that a recipe asks for to an exported folder, and check each."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from infra.dataset.dataset import Dataset
from infra.formats.megatron import VALIDATION, TokenShards
from tasks.release.export import TrainedModel
from tasks.release.formats.supported import GGUF, INT8, ONNX, format_errors
from tasks.release.model_card import find_llama_cpp_pre_tokenizer

MAX_TEXTS, MAX_TEXT_CHARS = 50, 2_000  # held-out documents that llama.cpp encodes


def write_formats(
    trained: TrainedModel, folder: Path, name: str, tokens: Dataset, formats: Sequence[str]
) -> dict[str, Any]:
    """Write and check further formats of an exported model.

    Returns:
        Statistics by format: the largest difference from the trained model.

    Raises:
        ParityError: if a format gives other results.
        UserError: if the model cannot be written in it.
    """
    for error in format_errors(
        name, trained.model_config["architecture"], formats, tokens.manifest.config
    ):
        raise error
    stats: dict[str, Any] = {}
    if GGUF in formats:
        from tasks.release.formats.gguf import check_gguf, write_gguf

        rule = find_llama_cpp_pre_tokenizer(tokens.manifest.config)
        assert rule is not None
        write_gguf(folder, name, rule)
        texts = _held_out_texts(tokens)
        difference = check_gguf(folder, texts, trained.reference_logits["tokens"][0])
        stats[GGUF] = {"largest_logprob_difference": difference, "texts": len(texts)}
    if ONNX in formats or INT8 in formats:
        from tasks.release.formats.onnx import check_onnx, compare_int8, write_int8, write_onnx

        path = write_onnx(folder)
        difference = check_onnx(trained, path)
        if ONNX in formats:
            stats[ONNX] = {"largest_logprob_difference": difference}
        if INT8 in formats:
            context = int(trained.model_config["context_length"])
            documents = _held_out_documents(tokens, context)
            stats[INT8] = compare_int8(path, write_int8(path), documents, trained.eos)
        if ONNX not in formats:
            path.unlink()
    return stats


def _held_out_documents(tokens: Dataset, context: int) -> list[tuple[list[int], int]]:
    """Return the beginnings of held-out documents, at most a context long, and the bytes of their text."""
    tokenizer = Tokenizer.from_buffer(tokens.read("tokenizer.json"))
    eos = tokens.stats["eos_id"]
    documents = _iter_documents(tokens, limit=context, count=MAX_TEXTS)
    without_end = [[token for token in ids if token != eos] for ids in documents]
    return [(ids, len(tokenizer.decode(ids).encode())) for ids in without_end if ids]


def _held_out_texts(tokens: Dataset) -> list[str]:
    """Return the beginnings of held-out documents."""
    tokenizer = Tokenizer.from_buffer(tokens.read("tokenizer.json"))
    return [
        tokenizer.decode(ids)[:MAX_TEXT_CHARS]
        for ids in _iter_documents(tokens, limit=MAX_TEXT_CHARS, count=MAX_TEXTS)
    ]


def _iter_documents(tokens: Dataset, *, limit: int, count: int) -> list[list[int]]:
    shards = TokenShards(tokens, VALIDATION)
    starts = [int(start) for start in shards.document_starts[: count + 1]]
    return [
        [int(token) for token in shards.read(start, min(end - start, limit))]
        for start, end in pairwise(starts)
    ]
