"""Tags of words: those of their first tokens."""

from pathlib import Path

from lm.models.heads.config import HeadConfig
from lm.objectives.tagging import encode_words
from tasks.finetune.entry import FinetuneEntry
from tasks.finetune.metrics.compute import Predictions
from tasks.finetune.predict.load import load_released, run_in_batches
from tasks.finetune.selection import Selection

OUTSIDE = "O"  # of words that were cut off, if it is a tag


def predict_tags(folder: Path, selection: Selection, entry: FinetuneEntry) -> Predictions:
    """Return the tags of the words of test examples."""
    released = load_released(folder)
    config = released.model.config
    names = tuple(config.id2label[number] for number in range(config.num_labels))
    test = selection.test
    words = encode_words(
        released.encoder,
        test["words"].to_pylist(),
        test["predicate"].to_pylist(),
        _max_length(entry, released.tokenizer.model_max_length),
    )
    head = HeadConfig("tagging", released.eos_id, names)
    fallback = OUTSIDE if OUTSIDE in names else names[0]
    items = []
    for logits, first in zip(
        run_in_batches(released, head, words.rows), words.first_tokens, strict=True
    ):
        best = logits.argmax(-1).tolist()
        items.append([fallback if at < 0 else names[best[at]] for at in first])
    return Predictions(items)


def _max_length(entry: FinetuneEntry, longest: int) -> int:
    return min(entry.model.max_length or longest, longest)
