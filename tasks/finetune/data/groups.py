"""Groups of texts that resemble each other, directly or by others between them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from infra.minhash.bands import band_keys
from infra.minhash.sketch import ShingleReader
from tasks.finetune.data.splits import NearDuplicates, jaccard

# Texts of a bucket with which another one is compared: of templated sentences, all are in one bucket.
MAX_COMPARED = 16


def group_near_duplicates(texts: Sequence[str], near: NearDuplicates) -> list[int]:
    """Return the group of each text: the index of the first text of it.

    MinHash finds candidates; a pair is in one group if the Jaccard similarity of its shingles reaches the
    threshold. In a bucket with many groups, a text is compared with the first text of some of them.

    Args:
        texts: n texts.
        near: what a near-duplicate is.
    """
    parents = list(range(len(texts)))
    if not texts:
        return parents

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    reader = ShingleReader(near.ngram, "characters")
    column = pa.array(list(texts), pa.string())
    sketch = reader.sketch(column, near.seed, near.bands * near.rows)
    keys = band_keys(sketch.signatures, near.bands)
    rows = np.flatnonzero(sketch.shingle_counts > 0).tolist()
    sets = reader.shingle_sets(column, rows)
    for band in range(near.bands):
        buckets: dict[int, list[int]] = {}
        for index in rows:
            others = buckets.setdefault(int(keys[index, band]), [])
            for other in others:
                one, two = root(index), root(other)
                if one == two:
                    break
                if jaccard(sets[index], sets[other]) >= near.threshold:
                    parents[max(one, two)] = min(one, two)
                    break
            else:
                if len(others) < MAX_COMPARED:
                    others.append(index)
    return [root(index) for index in range(len(texts))]
