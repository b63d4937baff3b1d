"""The data set ``fingerprints``: what a search for common runs of words keeps of each document.

About 8 bytes for every 13 words, and it depends on the document alone, so parts that come in later
cost themselves only.
"""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from infra.dataset import Dataset, PartRef
from infra.fingerprint import digest
from infra.ledger import verdicts
from infra.stage import Context, Outcome, Spec, Stage, Unit, build
from infra.unicode import VERSION
from tasks.select.repeats.words import fingerprints

COLUMN = "hashes"
STAGE = Stage(
    "fingerprints",
    modules=(
        "tasks.select.repeats.fingerprints",
        "tasks.select.repeats.folding",
        "tasks.select.repeats.words",
    ),
    libraries=("pyarrow",),
)


def build_fingerprints(ctx: Context, words: int, documents: Sequence[Dataset]) -> list[PartRef]:
    """The fingerprints of all parts, row-aligned with the documents, in the order of the sources.

    Args:
        ctx: the run.
        words: the length of the runs that are to be found.
        documents: the sources' documents.
    """
    settings = {"words": words, "unicode": VERSION}
    parts = []
    for source in documents:
        spec = Spec(STAGE, source.source, settings, (source,))
        units = [Unit(digest(part.content), (part, words), part.rows) for part in source.parts]
        parts += build(ctx, spec, units, take).parts
    return parts


def take(part: PartRef, words: int) -> Iterator[Outcome]:
    """Take the fingerprints of one part."""
    table = part.table(["id", "url", "text"])
    kept = pa.table({COLUMN: fingerprints(table["text"], words)})
    said = verdicts(STAGE.name, table["id"].to_pylist(), urls=table["url"].to_pylist())
    yield Outcome(kept, said)
