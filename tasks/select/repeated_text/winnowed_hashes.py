"""The data set ``fingerprints``: what a search for common runs of words keeps of each document.

About 8 bytes for every 13 words.
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
    """The fingerprints of all parts, row-aligned with the documents, in the order of the sources.

    Args:
        ctx: the run.
        run_words: the length of the runs that are to be found.
        documents: the sources' documents.
    """
    return build_hashes(
        ctx, STAGE, {"min_run_words": run_words}, compute_fingerprints, run_words, documents
    )
