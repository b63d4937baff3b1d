"""The data set `fingerprints`: winnowed hashes of each document, to find common runs of words.

It takes about 8 bytes per 13 words of text.
"""

from collections.abc import Sequence

from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.stage import Context, Stage
from tasks.select.repeated_text.hash_datasets import build_hashes
from tasks.select.repeated_text.word_hashes import compute_fingerprints

STAGE = Stage(
    "fingerprints",
    modules=("tasks.select.repeated_text.winnowed_hashes",),
    libraries=("pyarrow",),
)


def build_fingerprints(ctx: Context, run_words: int, documents: Sequence[Dataset]) -> list[PartRef]:
    """Build the fingerprints of all parts, row-aligned with the documents, in the order of the sources.

    Args:
        ctx: the run.
        run_words: words of the runs to find.
        documents: the sources' documents.
    """
    return build_hashes(
        ctx, STAGE, {"min_run_words": run_words}, compute_fingerprints, run_words, documents
    )
