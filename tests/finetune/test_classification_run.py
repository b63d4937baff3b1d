"""A classifier, from a file to its scores: all steps of `finetune` in this process."""

import random
from pathlib import Path

import pytest

from tests.finetune.tiny_runs import ENCODER, TinyStore, entry, variant, write_jsonl

GOOD, BAD = ("the corn", "seven stones"), ("the sea", "ses clefs")


def write_sentences(path: Path, count: int = 240) -> Path:
    """Sentences with a cue that decides their label."""
    draw = random.Random(3)
    rows = []
    for number in range(count):
        label = draw.choice(["good", "bad"])
        cue = draw.choice(GOOD if label == "good" else BAD)
        rows.append({"text": f"{number} The miller ground {cue} {draw.random()}", "label": label})
    return write_jsonl(path, rows)


@pytest.mark.usefixtures("in_process")
def test_a_planted_cue_is_learned_and_scored(tmp_path: Path) -> None:
    store = TinyStore(tmp_path)
    item = entry("classification", write_sentences(tmp_path / "data.jsonl"), optim__epochs=6)
    examples = store.prepare(item)
    assert examples.stats["labels"] == ["bad", "good"]
    base = store.base(**ENCODER)
    model = store.finetune(variant(item), examples, base)
    assert model.stats["validation_loss"] < 0.1
    assert model.stats["examples"]["train"] == examples.stats["splits"]["train"]
    scores = store.score(variant(item), store.release(model), examples)
    assert scores.stats["systems"]["model"]["accuracy"]["value"] == 1.0
