"""Edited copies of training texts that keep their label (EDA, Wei and Zou 2019, arXiv:1901.11196).

Words are deleted, exchanged and inserted. The paper also replaces and inserts synonyms, from a dictionary that exists
for few languages; here the inserted words are those of other training texts.
"""

import random
from collections.abc import Sequence

import pyarrow as pa

from infra.dataset.fingerprint import json_sha256
from tasks.finetune.augment_config import AugmentConfig


def augment_examples(train: pa.Table, config: AugmentConfig, seed: int) -> pa.Table:
    """Append copies of examples of ``classification`` with edited texts.

    A copy has the id of its example with ``+1``, ``+2``, and the example's fold: what is held out in a
    cross-validation is held out with its copies.

    Args:
        train: the examples.
        config: how they are edited.
        seed: of the edits, which are a function of it and of an example's id.
    """
    texts = {column: train[column].to_pylist() for column in ("text", "text_pair")}
    words = {word for column in texts.values() for text in column if text for word in text.split()}
    vocabulary = sorted(words) if config.insert else []
    ids = train["id"].to_pylist()
    tables = [train]
    for copy in range(1, config.copies + 1):
        table = train
        for column, values in texts.items():
            edited = [
                None
                if text is None
                else edit_text(text, config, vocabulary, f"{seed} {column} {example_id}+{copy}")
                for text, example_id in zip(values, ids, strict=True)
            ]
            table = _set_column(table, column, edited)
        tables.append(_set_column(table, "id", [f"{example_id}+{copy}" for example_id in ids]))
    return pa.concat_tables(tables).combine_chunks()


def _set_column(table: pa.Table, name: str, values: Sequence[str | None]) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))


def edit_text(text: str, config: AugmentConfig, vocabulary: Sequence[str], key: str) -> str:
    """Edit the words of a text, which are what white space separates; at least one remains.

    Args:
        text: to be edited.
        config: how much is edited.
        vocabulary: words that may be inserted.
        key: of the draws; equal keys give equal edits.
    """
    rng = random.Random(json_sha256(["augment", key]))
    words = text.split()
    n = len(words)
    if not n:
        return text
    for _ in range(_draw_count(config.insert * n, rng) if vocabulary else 0):
        words.insert(rng.randint(0, len(words)), rng.choice(vocabulary))
    for _ in range(_draw_count(config.swap * n, rng)):
        i, j = rng.randrange(len(words)), rng.randrange(len(words))
        words[i], words[j] = words[j], words[i]
    kept = [word for word in words if rng.random() >= config.delete]
    return " ".join(kept or [rng.choice(words)])


def _draw_count(mean: float, rng: random.Random) -> int:
    """Draw one of the two whole numbers next to a mean."""
    whole, rest = divmod(mean, 1)
    return int(whole) + (rng.random() < rest)
