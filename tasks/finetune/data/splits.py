"""Splits and folds that are functions of an example's content, and duplicates across them.

An example is held out by a digest of its input. So equal inputs are in the same split whatever file or row
they stand in, and an example stays in its split when others are added.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from infra.compute.arrays import U64
from infra.dataset.fingerprint import canonical_json, hash_to_unit
from infra.dataset.ledger import Verdict, dropped
from infra.minhash.bands import band_keys
from infra.minhash.shingles import normalize
from infra.minhash.sketch import ShingleReader
from infra.schemas.examples import EXAMPLES, Split, Task

# The split whose examples others must not resemble comes first.
_PRECEDENCE: tuple[Split, ...] = ("test", "validation", "train")


@dataclass(frozen=True)
class NearDuplicates:
    """What counts as a near-duplicate.

    The shingles are of characters, not of words as in ``dedup``: an example may be one short sentence, of
    which a changed word takes most 5-word shingles away.

    Attributes:
        ngram: characters of a shingle.
        threshold: Jaccard similarity of the sets of shingles from which two inputs are near-duplicates.
        bands: of the signature. With 25 bands of 4 values, a pair of similarity 0.7 is compared with
            a probability of 0.999, of 0.5 with 0.80.
        rows: hash values of a band.
        seed: of the hash functions.
    """

    ngram: int = 5
    threshold: float = 0.7
    bands: int = 25
    rows: int = 4
    seed: int = 1


def near_duplicates(threshold: float | None, seed: int) -> NearDuplicates | None:
    """Return what counts as a near-duplicate by an entry's threshold; ``None``: only equal inputs."""
    return None if threshold is None else NearDuplicates(threshold=threshold, seed=seed % 2**32)


def example_ids(task: Task, examples: pa.Table) -> list[str]:
    """Return a digest of each example's content, 32 hexadecimal characters: equal for equal examples."""
    rows = examples.select(EXAMPLES[task].names).to_pylist()
    return [
        hashlib.blake2b(canonical_json([task, row]), digest_size=16).hexdigest() for row in rows
    ]


def split_inputs(task: Task, examples: pa.Table) -> list[str]:
    """Return the text by which each example is held out: its input.

    Questions on a passage are held out with it, and queries with their passage: else a model could be
    tested on a passage that it was trained on. Of a dialogue, it is what comes before the first answer.
    """
    rows: list[dict[str, Any]] = examples.to_pylist()
    if task == "classification":
        pairs = ((row["text"], row["text_pair"]) for row in rows)
        return [text if pair is None else f"{text}\n{pair}" for text, pair in pairs]
    if task == "tagging":
        return [" ".join(row["words"]) for row in rows]
    if task == "chat":
        return [_chat_input(row["messages"]) for row in rows]
    column = {"qa": "context", "seq2seq": "source", "completion": "text", "embedding": "positive"}
    return [row[column[task]] for row in rows]


def _chat_input(messages: Sequence[Mapping[str, str]]) -> str:
    contents = [message["content"] for message in messages]
    roles = [message["role"] for message in messages]
    return "\n".join(contents[: max(roles.index("assistant"), 1)])


def draw_splits(
    inputs: Sequence[str], seed: int, validation_fraction: float, test_fraction: float
) -> list[Split]:
    """Draw the split of each input, by its normalized text and the seed alone.

    Raises:
        ValueError: if a fraction is negative, or nothing is left to train on.
    """
    if min(validation_fraction, test_fraction) < 0 or validation_fraction + test_fraction >= 1:
        raise ValueError("fractions must not be negative, and their sum must be below 1")
    return [_draw_split(text, seed, validation_fraction, test_fraction) for text in inputs]


def _draw_split(text: str, seed: int, validation: float, test: float) -> Split:
    draw = hash_to_unit(seed, "split", normalize(text))
    # Test comes first: another validation fraction leaves the test split as it is.
    if draw < test:
        return "test"
    return "validation" if draw < test + validation else "train"


def assign_folds(
    groups: Sequence[str], strata: Sequence[str], k: int, seed: int
) -> list[int]:
    """Assign examples to k folds, each with about the same fraction of every stratum.

    Examples of a group are in the same fold. Within a stratum, groups are dealt to the folds in the order of
    a digest; strata begin at different folds, so that folds differ in size by few groups.

    Args:
        groups: of n examples: texts that are equal where examples must not be in different folds.
        strata: what is to be balanced, such as the label of each example; of a group, its first one counts.
        k: the number of folds.
        seed: of the order.

    Raises:
        ValueError: if there are fewer than two folds, or fewer groups than folds.
    """
    if k < 2:
        raise ValueError("cross-validation takes at least 2 folds")
    first_stratum: dict[str, str] = {}
    for group, stratum in zip(groups, strata, strict=True):
        first_stratum.setdefault(group, stratum)
    if len(first_stratum) < k:
        raise ValueError(f"{len(first_stratum)} different inputs for {k} folds")
    order = sorted(
        first_stratum, key=lambda key: (first_stratum[key], hash_to_unit(seed, "fold", key), key)
    )
    # One deal over all strata, one after the other: each stratum continues where the last one ended.
    folds = {key: index % k for index, key in enumerate(order)}
    return [folds[key] for key in groups]


def find_duplicates(
    ids: Sequence[str],
    inputs: Sequence[str],
    splits: Sequence[Split],
    near: NearDuplicates | None,
    queries: Sequence[str] | None = None,
) -> list[Verdict]:
    """Decide which examples are dropped because they repeat others.

    * ``duplicate``: the same example stands earlier in the same split.
    * ``duplicate_of_test``, ``duplicate_of_validation``: the normalized input, or query, is in that split, too.
    * ``near_duplicate_of_test``, ``near_duplicate_of_validation``: it resembles one there. MinHash finds
      candidates; a pair counts if the Jaccard similarity of its shingles reaches the threshold.

    Examples of the test split are never dropped for those of another one, those of validation only for
    test's.

    Args:
        ids: of n examples, by content.
        inputs: the text by which each is held out (``split_inputs``).
        splits: the split of each.
        near: what a near-duplicate is; ``None``: only equal inputs count.
        queries: of ``embedding``: what is asked of each input. A query may have several passages, which
            are held out one by one.
    """
    verdicts = [Verdict()] * len(ids)
    seen: dict[tuple[Split, str], int] = {}
    for index, (example_id, split) in enumerate(zip(ids, splits, strict=True)):
        first = seen.setdefault((split, example_id), index)
        if first != index:
            verdicts[index] = dropped("duplicate", of=example_id)
    fields = [inputs] if queries is None else [inputs, queries]
    keys = [
        [(field, normalize(text)) for field, text in enumerate(row)]
        for row in zip(*fields, strict=True)
    ]
    for rank, held in enumerate(_PRECEDENCE[:2]):
        held_rows = [i for i, split in enumerate(splits) if split == held and verdicts[i].kept]
        others = [
            i
            for i, split in enumerate(splits)
            if split in _PRECEDENCE[rank + 1 :] and verdicts[i].kept
        ]
        first_row: dict[tuple[int, str], int] = {}
        for i in held_rows:
            for key in keys[i]:
                first_row.setdefault(key, i)
        rest = []
        for i in others:
            equal = next((first_row[key] for key in keys[i] if key in first_row), None)
            if equal is None:
                rest.append(i)
            else:
                verdicts[i] = dropped(f"duplicate_of_{held}", of=ids[equal])
        if near is None:
            continue
        distinct = sorted(i for (field, _), i in first_row.items() if field == 0)
        found = find_near_duplicates([inputs[i] for i in rest], [inputs[i] for i in distinct], near)
        for position, (match, similarity) in found.items():
            verdicts[rest[position]] = dropped(
                f"near_duplicate_of_{held}",
                of=ids[distinct[match]],
                similarity=round(similarity, 4),
            )
    return verdicts


def find_near_duplicates(
    texts: Sequence[str], held: Sequence[str], near: NearDuplicates
) -> dict[int, tuple[int, float]]:
    """Find the texts that resemble a held-out one.

    Returns:
        Index of the text -> index of the most similar held-out text, and the similarity.
    """
    if not texts or not held:
        return {}
    reader = ShingleReader(near.ngram, "characters")
    columns = [pa.array(list(items), pa.string()) for items in (texts, held)]
    keys = []
    has_shingles = []
    for column in columns:
        sketch = reader.sketch(column, near.seed, near.bands * near.rows)
        keys.append(band_keys(sketch.signatures, near.bands))
        has_shingles.append(sketch.shingle_counts > 0)
    candidates: dict[int, set[int]] = {}
    for band in range(near.bands):
        buckets: dict[int, list[int]] = {}
        for j in np.flatnonzero(has_shingles[1]).tolist():
            buckets.setdefault(int(keys[1][j, band]), []).append(j)
        for i in np.flatnonzero(has_shingles[0]).tolist():
            if bucket := buckets.get(int(keys[0][i, band])):
                candidates.setdefault(i, set()).update(bucket)
    text_sets = reader.shingle_sets(columns[0], sorted(candidates))
    wanted = sorted(set().union(*candidates.values())) if candidates else []
    held_sets = reader.shingle_sets(columns[1], wanted)
    found: dict[int, tuple[int, float]] = {}
    for i, matches in sorted(candidates.items()):
        similarity, match = max((jaccard(text_sets[i], held_sets[j]), -j) for j in matches)
        if similarity >= near.threshold:
            found[i] = (-match, similarity)
    return found


def jaccard(a: U64, b: U64) -> float:
    """Return the similarity of two sets of hashes, each sorted and distinct, not both empty."""
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)
