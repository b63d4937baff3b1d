"""Texts that a model writes for a source, by greedy decoding."""

from collections.abc import Sequence
from pathlib import Path

import torch

from tasks.finetune.config import Seq2SeqTaskEntry
from tasks.finetune.predict.load import BATCH_SIZE, ReleasedModel, load_released


@torch.no_grad()
def write_targets(folder: Path, sources: Sequence[str], entry: Seq2SeqTaskEntry) -> list[str]:
    """Return the text that a released model of an entry writes for each source."""
    released = load_released(folder)
    longest = released.tokenizer.model_max_length
    max_length = min(entry.model.max_length or longest, longest)
    end = released.eos_id
    prompts: list[list[int]] = []
    for source in sources:
        ids = [token for token, _ in released.encoder.encode_plain(source)]
        if released.is_encoder_decoder:
            prompts.append([*ids[: max_length - 1], end])
        else:
            # Some room is left to write.
            prompts.append([end, *ids[: max(1, max_length // 2)], end])
    texts = [""] * len(prompts)
    # Sources of equal length are a batch without padding.
    by_length = sorted(range(len(prompts)), key=lambda number: (len(prompts[number]), number))
    for batch in _equal_lengths(by_length, prompts):
        written = _generate(released, [prompts[i] for i in batch], entry.max_new_tokens, max_length)
        for number, ids in zip(batch, written, strict=True):
            texts[number] = str(released.tokenizer.decode(ids, skip_special_tokens=True)).strip()
    return texts


def _equal_lengths(order: list[int], prompts: list[list[int]]) -> list[list[int]]:
    batches: list[list[int]] = []
    for number in order:
        last = batches[-1] if batches else None
        if last and len(last) < BATCH_SIZE and len(prompts[last[0]]) == len(prompts[number]):
            last.append(number)
        else:
            batches.append([number])
    return batches


def _generate(
    released: ReleasedModel, prompts: list[list[int]], max_new_tokens: int, max_length: int
) -> list[list[int]]:
    """Return the ids that follow prompts of one length, without the end of text."""
    inputs = torch.tensor(prompts)
    room = max_length - (0 if released.is_encoder_decoder else inputs.shape[1])
    output = released.model.generate(
        input_ids=inputs,
        attention_mask=torch.ones_like(inputs),
        max_new_tokens=max(1, min(max_new_tokens, room)),
        do_sample=False,
        num_beams=1,
        eos_token_id=released.eos_id,
        pad_token_id=released.eos_id,
    )
    start = 1 if released.is_encoder_decoder else inputs.shape[1]
    written = output[:, start:].tolist()
    return [ids[: ids.index(released.eos_id)] if released.eos_id in ids else ids for ids in written]
