"""How probable the test's targets are: assistants' answers, or whole texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812

from infra.formats.byte_level import token_to_bytes
from lm.objectives import chat
from lm.objectives.fill_in_middle import EXTRA_TOKENS, encode
from tasks.finetune.encode import find_added_tokens, to_conversations
from tasks.finetune.entry import FinetuneEntry
from tasks.finetune.metrics.compute import Predictions
from tasks.finetune.predict.load import ReleasedModel, load_released
from tasks.finetune.selection import Selection

Item = tuple[float, int, int]  # -ln p, tokens and bytes of the targets


def measure_answers(folder: Path, selection: Selection, entry: FinetuneEntry) -> Predictions:
    """Return -ln p, tokens and bytes of the assistant's turns of each test example."""
    released, max_length = _load(folder, entry)
    size = int(released.model.config.vocab_size)
    added = find_added_tokens(entry.task_name, released.encoder, size)
    conversations = to_conversations(selection.test)
    rows = chat.encode(released.encoder, conversations, added, max_length).rows
    ids, counted = rows[:, :max_length], rows[:, max_length:] == 1
    return Predictions(
        [
            _measure(released, own[own >= 0].tolist(), is_counted[own >= 0].tolist())
            for own, is_counted in zip(ids, counted, strict=True)
        ]
    )


def measure_texts(folder: Path, selection: Selection, entry: FinetuneEntry) -> Predictions:
    """Return -ln p, tokens and bytes of each test text, read from left to right."""
    released, max_length = _load(folder, entry)
    texts = selection.test["text"].to_pylist()
    pieces = encode(released.encoder, texts, max_length)
    totals: list[Item] = [(0.0, 0, 0)] * len(texts)
    for row, number in zip(pieces.rows, pieces.text.tolist(), strict=True):
        own = [released.eos_id, *row[row >= 0].tolist(), released.eos_id]
        nats, tokens, size = _measure(released, own, [False] + [True] * (len(own) - 1))
        before = totals[number]
        totals[number] = (before[0] + nats, before[1] + tokens, before[2] + size)
    return Predictions(totals)


def _load(folder: Path, entry: FinetuneEntry) -> tuple[ReleasedModel, int]:
    released = load_released(folder)
    longest = released.tokenizer.model_max_length
    max_length = min(entry.model.max_length or longest, longest)
    return released, max(max_length, EXTRA_TOKENS + 1)


@torch.no_grad()
def _measure(released: ReleasedModel, ids: Sequence[int], is_counted: Sequence[bool]) -> Item:
    tokens = torch.tensor([list(ids)])
    logits = released.model(input_ids=tokens).logits[0, :-1].double()
    nats = F.cross_entropy(logits, tokens[0, 1:], reduction="none")
    wanted = torch.tensor(list(is_counted)[1:], dtype=torch.bool)
    targets = tokens[0, 1:][wanted].tolist()
    return float(nats[wanted].sum()), len(targets), count_bytes(released.tokenizer, targets)


def count_bytes(tokenizer: Any, ids: Sequence[int]) -> int:
    """Return the bytes of text that tokens stand for; special tokens stand for none.

    Decoded text would not do: a character of which a token has only a part is decoded as another one.
    """
    special = set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())
    names = tokenizer.convert_ids_to_tokens([token for token in ids if token not in special])
    sizes = [token_to_bytes(name) for name in names]
    if any(size is None for size in sizes):  # a vocabulary that is not byte-level
        return len(str(tokenizer.decode(ids, skip_special_tokens=True)).encode())
    return sum(len(size or b"") for size in sizes)
