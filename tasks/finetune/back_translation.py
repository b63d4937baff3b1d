"""Pairs for training whose source a model of the other direction wrote."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from infra.dataset.ledger import Verdict, dropped
from infra.minhash.shingles import normalize
from infra.schemas.examples import Split
from lm.models.single_thread import single_thread
from tasks.finetune.config import Seq2SeqTaskEntry
from tasks.finetune.data.splits import find_duplicates, near_duplicates
from tasks.finetune.predict.write import write_targets
from tasks.finetune.selection import Selection

SUFFIX = "+back"  # of the id of the example whose target was translated


@dataclass(frozen=True)
class BackTranslation:
    """What came of it.

    Attributes:
        pairs: rows of examples, with the id of the one whose target they have and ``SUFFIX``.
        counts: pairs by what became of them: ``kept``, or why not.
    """

    pairs: pa.Table
    counts: dict[str, int]


def translate_back(
    folder: Path,
    translator: Seq2SeqTaskEntry,
    entry: Seq2SeqTaskEntry,
    selection: Selection,
    seed: int,
) -> BackTranslation:
    """Translate the targets of the training examples into sources.

    A pair is left out if nothing was written (``empty``), if the training examples have the same source
    (``known_source``), or if the source repeats a held-out one: training must not see what is tested.

    Args:
        folder: of the translator's release.
        translator: its entry.
        entry: whose examples are extended.
        selection: its examples.
        seed: of the near-duplicates.
    """
    train = selection.train
    with single_thread():
        written = write_targets(folder, train["target"].to_pylist(), translator)
    held = [(text, "validation") for text in selection.validation["source"].to_pylist()]
    held += [(text, "test") for text in selection.test["source"].to_pylist()]
    known = {normalize(text) for text in train["source"].to_pylist()}
    verdicts: list[Verdict] = []
    for text in written:
        key = normalize(text)
        verdicts.append(
            dropped("empty")
            if not key.strip()
            else dropped("known_source")
            if key in known
            else Verdict()
        )
        known.add(key)
    rest = [index for index, verdict in enumerate(verdicts) if verdict.kept]
    splits: list[Split] = [split for _, split in held]  # type: ignore[misc]
    found = find_duplicates(
        [str(number) for number in range(len(held) + len(rest))],
        [*(text for text, _ in held), *(written[index] for index in rest)],
        [*splits, *(["train"] * len(rest))],  # type: ignore[list-item]
        near_duplicates(entry.data.near_duplicate_threshold, seed),
    )
    for index, verdict in zip(rest, found[len(held) :], strict=True):
        verdicts[index] = verdict
    kept = [index for index, verdict in enumerate(verdicts) if verdict.kept]
    pairs = train.take(pa.array(kept, pa.int64())).combine_chunks()
    columns = {
        "id": [f"{name}{SUFFIX}" for name in pairs["id"].to_pylist()],
        "source": [written[index] for index in kept],
    }
    for name, values in columns.items():
        index = pairs.schema.get_field_index(name)
        pairs = pairs.set_column(index, name, pa.array(values, pa.string()))
    counts = Counter(verdict.reason or "kept" for verdict in verdicts)
    return BackTranslation(pairs, dict(sorted(counts.items())))
