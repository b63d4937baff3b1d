"""The sub-stage ``signatures``: what deduplication keeps of each document, part by part.

A row holds the digest of the normalised text, the number of shingles and the band keys: 136 bytes
with the default 14 bands. It depends on the document alone, so parts that come in later cost
themselves only.
"""

from collections.abc import Iterator

import pyarrow as pa

from infra.dataset import Dataset, PartRef
from infra.fingerprint import digest
from infra.ledger import verdicts
from infra.stage import Context, Outcome, Spec, Stage, Unit, build
from infra.unicode import VERSION
from tasks.dedup.bands import band_keys
from tasks.dedup.config import DedupConfig
from tasks.dedup.sketch import DIGEST, Reader

STAGE = Stage(
    "signatures",
    modules=(
        "tasks.dedup.bands",
        "tasks.dedup.hashing",
        "tasks.dedup.signatures",
        "tasks.dedup.sketch",
        "tasks.dedup.words",
        "infra.arrow",
        "infra.unicode",
    ),
    libraries=("pyarrow",),
)


def band_column(band: int) -> str:
    """The column of a band's keys."""
    return f"band_{band:03d}"


def build_signatures(ctx: Context, config: DedupConfig, documents: Dataset) -> Dataset:
    """The signatures of a data set of documents: a part per part, row-aligned, in its order."""
    settings = config.model_dump(include={"ngram", "bands", "rows", "seed"})
    spec = Spec(STAGE, documents.source, {**settings, "unicode": VERSION}, (documents,))
    units = [Unit(digest(part.content), (part, config), rows=part.rows) for part in documents.parts]
    return build(ctx, spec, units, sign)


def sign(part: PartRef, config: DedupConfig) -> Iterator[Outcome]:
    """Sketch the documents of one part."""
    table = part.table(["id", "url", "text"])
    sketches = Reader(config.ngram).sketch(table["text"], config.seed, config.permutations)
    keys = band_keys(sketches.signatures, config.bands)
    ids = table["id"].to_pylist()
    kept = {
        "id": pa.array(ids, pa.string()),
        "exact": pa.array(sketches.digests, pa.binary(DIGEST)),
        "shingles": pa.array(sketches.shingles, pa.int64()),
    }
    for band in range(config.bands):
        kept[band_column(band)] = pa.array(keys[:, band], pa.uint64())
    yield Outcome(pa.table(kept), verdicts(STAGE.name, ids, urls=table["url"].to_pylist()))
