"""Predictions of released models, and what they rest on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from infra.dataset.model_folder import model_folder
from tasks.finetune.predict.classification import predict_labels
from tasks.finetune.predict.likelihood import count_bytes
from tasks.finetune.selection import select_examples
from tests.finetune.planted_tasks import planted
from tests.finetune.tiny_runs import ENCODER, TinyStore, entry, variant, write_jsonl
from tests.lm.corpora import tokenizer


@pytest.mark.usefixtures("in_process")
def test_labels_of_pairs_and_of_single_texts_do_not_depend_on_each_other(tmp_path: Path) -> None:
    store = TinyStore(tmp_path)
    rows, own = planted("classification", count=60)
    path = write_jsonl(tmp_path / "data.jsonl", rows)
    item = entry("classification", path, **{"data__format": "jsonl", **own, "optim__epochs": 1})
    examples = store.prepare(item)
    folder = model_folder(
        store.release(store.finetune(variant(item), examples, store.base(**ENCODER)))
    )
    selection = select_examples(variant(item), examples, 1)
    texts = selection.test.select(["text"]).slice(0, 4)

    def scores(pairs: list[str | None]) -> np.ndarray:
        test = texts.slice(0, len(pairs)).append_column("text_pair", pa.array(pairs, pa.string()))
        found = predict_labels(folder, replace(selection, test=test), item).scores
        assert found is not None
        return found

    single, mixed = scores([None] * 4), scores([None, "the corn", None, "the corn"])
    pairs = scores(["the corn"] * 4)
    for number, (one, two, both) in enumerate(zip(single, pairs, mixed, strict=True)):
        np.testing.assert_allclose(both, two if number % 2 else one, atol=1e-6)
        assert not np.allclose(one, two, atol=1e-6)


def test_bytes_are_those_of_the_text_even_if_a_character_is_divided() -> None:
    from transformers import PreTrainedTokenizerFast

    eos = "<|endoftext|>"
    own = PreTrainedTokenizerFast(tokenizer_object=tokenizer(), eos_token=eos)
    text = "Das Kind fand 水 und Größe, 🙂"
    ids = own.encode(text)
    assert count_bytes(own, [*ids, own.eos_token_id]) == len(text.encode())
    for middle in range(len(ids) + 1):
        assert count_bytes(own, ids[:middle]) + count_bytes(own, ids[middle:]) == len(text.encode())
