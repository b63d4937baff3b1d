"""The data set `signatures`: one row per document, part by part.

A row holds the digest of the normalized text, the number of shingles, the band keys and four bits
of each hash value: 192 bytes with the default 14 bands of 8 rows, besides the id. It depends on the
document alone, so a new part does not change the signatures of other parts.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from infra.compute.arrays import I64, U32
from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.fingerprint import json_sha256
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.formats.unicode_tables import UNICODE_VERSION
from infra.minhash.b_bit import pack
from infra.minhash.bands import band_keys
from infra.minhash.sketch import DIGEST_BYTES
from tasks.dedup.config import DedupConfig
from tasks.dedup.shingle_readers import ShingleReaders, load_languages

STAGE = Stage("signatures", modules=("tasks.dedup.signatures",), libraries=("pyarrow",))


def band_column(band: int) -> str:
    """Return the name of the column of a band's keys."""
    return f"band_{band:03d}"


def build_signatures(
    ctx: Context, config: DedupConfig, documents: Dataset, annotations: Dataset | None = None
) -> Dataset:
    """Build the signatures of a data set of documents: parts and rows are aligned with it.

    Annotations are used if shingles differ by language.
    """
    names = ("ngram", "shingle_unit", "bands", "rows", "seed", "keep_signatures")
    settings = {name: config.to_json()[name] for name in names}
    part_annotations: list[PartRef | None] = [None] * len(documents.parts)
    inputs: tuple[Dataset, ...] = (documents,)
    if annotations is not None and config.languages:
        settings["languages"] = {k: way.to_json() for k, way in sorted(config.languages.items())}
        part_annotations = list(annotations.parts)
        inputs = (documents, annotations)
    spec = DatasetSpec(STAGE, documents.source, {**settings, "unicode": UNICODE_VERSION}, inputs)
    units = [
        WorkUnit(
            json_sha256(part.content if columns is None else [part.content, columns.content]),
            (part, config, columns),
            expected_rows=part.num_rows,
        )
        for part, columns in zip(documents.parts, part_annotations, strict=True)
    ]
    return build_dataset(ctx, spec, units, compute_signatures)


def compute_signatures(
    part: PartRef, config: DedupConfig, annotations: PartRef | None = None
) -> Iterator[PartResult]:
    """Compute the signatures of one part."""
    table = part.table(["id", "url", "text"])
    sketches = ShingleReaders(config).sketch(table["text"], load_languages(part, annotations))
    ids = table["id"].to_pylist()
    rows = signature_table(
        ids, sketches.digests, sketches.shingle_counts, sketches.signatures, config
    )
    yield PartResult(rows, ledger_table(STAGE.name, ids, urls=table["url"].to_pylist()))


def signature_table(
    ids: list[str], digests: list[bytes], shingle_counts: I64, signatures: U32, config: DedupConfig
) -> pa.Table:
    """Return the rows of the data set for documents whose signatures are known."""
    bands, _ = config.banding
    keys = band_keys(signatures, bands)
    packed = pack(signatures)
    columns = {
        "id": pa.array(ids, pa.string()),
        "exact": pa.array(digests, pa.binary(DIGEST_BYTES)),
        "shingles": pa.array(shingle_counts, pa.int64()),
    }
    for band in range(bands):
        columns[band_column(band)] = pa.array(keys[:, band], pa.uint64())
    columns["b_bit_signature"] = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(packed.shape[1]), len(packed), [None, pa.py_buffer(packed)]
    )
    if config.keep_signatures:
        width = signatures.shape[1]
        values = pa.array(np.ascontiguousarray(signatures).reshape(-1), pa.uint32())
        columns["signature"] = pa.FixedSizeListArray.from_arrays(values, width)
    return pa.table(columns)
