"""An LSH index of a corpus as one file, and the bridge to datasketch.

The index is a Parquet file: a row per document with its MinHash signature, and the settings of the
signatures in the file's metadata. Nothing in it is pickled, so an index from an untrusted source is
safe to open. Signatures are datasketch's (scheme ``affine32``): they can be exported as
``datasketch.MinHash`` and ``datasketch.MinHashLSH`` objects, and an index can be made from MinHash
objects of another program.

Example::

    index = LshIndex.read("corpus.lsh.parquet")
    lsh = index.to_lsh()  # datasketch.MinHashLSH, keys are document ids
    lsh.query(text_minhash("some text", index.config))
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from datasketch import MinHash, MinHashLSH
from pydantic import ValidationError

from infra.compute.arrays import U32, Bools
from infra.dataset.dataset import PartRef
from infra.errors import UserError
from infra.store.external_files import open_url
from infra.store.storage import Storage
from tasks.dedup.config import DedupConfig
from tasks.dedup.shingle_readers import ShingleReaders

FORMAT = b"gristmill-lsh-index-1"
FORMAT_KEY, CONFIG_KEY = b"format", b"dedup"
SCHEME = "affine32"
COLUMNS = (("id", pa.string()), ("url", pa.string()), ("source", pa.string()))


@dataclass(frozen=True)
class Match:
    """A document of an index that shares a band with a query.

    Attributes:
        similarity: the Jaccard similarity estimated from the two signatures.
    """

    id: str
    url: str | None
    source: str | None
    similarity: float


@dataclass(frozen=True)
class LshIndex:
    """The signatures of n documents.

    Attributes:
        config: the settings of the signatures and of the bands.
        documents: n rows: ``id``, ``url``, ``source``.
        signatures: uint32[n, bands * rows], datasketch's ``hashvalues``.
    """

    config: DedupConfig
    documents: pa.Table
    signatures: U32

    @staticmethod
    def read(url: str) -> "LshIndex":
        """Read an index file from a path, or any URL that fsspec can open.

        Raises:
            UserError: if the file does not exist or is not an index.
        """
        try:
            with open_url(url) as file:
                table = pq.read_table(file)
            metadata = table.schema.metadata or {}
            if metadata.get(FORMAT_KEY) != FORMAT:
                raise UserError(f"{url}: not an LSH index; make one with `gristmill lsh-index`")
            config = DedupConfig.model_validate(json.loads(metadata[CONFIG_KEY]))
            values = table["signature"].combine_chunks().flatten().to_numpy()
            signatures = values.reshape(table.num_rows, config.num_permutations)
        except FileNotFoundError:
            raise UserError(f"{url}: no such file") from None
        except (OSError, pa.ArrowInvalid, KeyError, ValueError, ValidationError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{url}: not an LSH index ({reason})") from None
        return LshIndex(config, table.select([name for name, _ in COLUMNS]), signatures)

    @staticmethod
    def from_minhashes(minhashes: Mapping[str, MinHash], config: DedupConfig) -> "LshIndex":
        """Make an index from MinHash objects by key.

        Raises:
            UserError: if a MinHash has another scheme than ``affine32``, or another seed or number of
                permutations than ``config``.
        """
        for key, item in minhashes.items():
            made_with = (item.scheme, item.seed, item.num_perm)
            expected = (SCHEME, config.seed, config.num_permutations)
            if made_with != expected:
                raise UserError(
                    f"MinHash {key!r}: scheme, seed and num_perm are {made_with}, not {expected}"
                )
        signatures = [item.hashvalues.astype(np.uint32) for item in minhashes.values()]
        empty = np.zeros((0, config.num_permutations), np.uint32)
        nulls = pa.nulls(len(minhashes), pa.string())
        documents = pa.table(
            {"id": pa.array(list(minhashes), pa.string()), "url": nulls, "source": nulls}
        )
        return LshIndex(config, documents, np.stack(signatures) if signatures else empty)

    def write(self, url: str) -> None:
        """Write the index to a path or URL."""
        write_index(url, self.config, [index_table(self.documents, self.signatures)])

    def minhashes(self) -> Iterator[tuple[str, MinHash]]:
        """Yield the id and the signature of each document as a ``datasketch.MinHash``."""
        for key, values in zip(self.documents["id"].to_pylist(), self.signatures, strict=True):
            yield key, to_minhash(values, self.config)

    def to_lsh(self) -> MinHashLSH:
        """Return a ``datasketch.MinHashLSH`` of all documents, with their ids as keys."""
        config = self.config
        lsh = MinHashLSH(
            threshold=config.threshold, num_perm=config.num_permutations, params=config.banding
        )
        with lsh.insertion_session() as session:
            for key, item in self.minhashes():
                session.insert(key, item)
        return lsh

    def query(self, text: str, language: str | None = None) -> list[Match]:
        """Find the documents that share a band with a text, the most similar first.

        The result holds the same documents as ``to_lsh().query``, without building that object. The
        language counts if ``config.languages`` has settings for it.

        Raises:
            UserError: if the text has no shingle.
        """
        signatures, has_shingles = _sketch(pa.array([text]), [language], self.config)
        if not has_shingles[0]:
            shingling = self.config.shingling(language)
            raise UserError(
                f"the text has fewer than {shingling.ngram} {shingling.shingle_unit}: it has no "
                f"shingle to look up"
            )
        bands, rows = self.config.banding
        equal = self.signatures == signatures[0]
        shares_band = equal.reshape(len(equal), bands, rows).all(axis=2).any(axis=1)
        chosen = np.flatnonzero(shares_band)
        similarity = equal[chosen].mean(axis=1)
        matches = [
            Match(**document, similarity=float(value))
            for document, value in zip(
                self.documents.take(pa.array(chosen)).to_pylist(), similarity, strict=True
            )
        ]
        return sorted(matches, key=lambda match: (-match.similarity, match.id))


def hash_shingle(shingle: bytes) -> int:
    """Return the 32-bit hash of a shingle, for datasketch's ``hashfunc``."""
    return xxhash.xxh64_intdigest(shingle) & 0xFFFFFFFF


def to_minhash(hashvalues: U32, config: DedupConfig) -> MinHash:
    """Return a signature, such as a row of the column ``signature``, as a ``datasketch.MinHash``."""
    return MinHash(hashvalues=hashvalues, seed=config.seed, scheme=SCHEME, hashfunc=hash_shingle)


def text_minhash(text: str, config: DedupConfig, language: str | None = None) -> MinHash:
    """Return the signature of a text as a ``datasketch.MinHash``.

    It equals ``MinHash.update_batch`` over the text's shingles
    (``infra.minhash.shingles.shingles``), computed by the compiled kernel.
    """
    signatures, _ = _sketch(pa.array([text]), [language], config)
    return to_minhash(signatures[0], config)


def index_part(part: PartRef, config: DedupConfig) -> pa.Table:
    """Return the rows of an index for one part of a corpus."""
    return index_documents(part.table([*(name for name, _ in COLUMNS), "language", "text"]), config)


def index_documents(documents: pa.Table, config: DedupConfig) -> pa.Table:
    """Return the rows of an index for documents; texts without a shingle are left out.

    ``documents`` has ``id``, ``url``, ``source``, ``language`` and ``text``.
    """
    languages = documents["language"].to_pylist()
    signatures, has_shingles = _sketch(documents["text"], languages, config)
    return index_table(documents.filter(pa.array(has_shingles)), signatures[has_shingles])


def index_table(documents: pa.Table, signatures: U32) -> pa.Table:
    """Return the rows of an index: ``id``, ``url``, ``source``, ``signature``."""
    columns = {name: documents[name].cast(kind) for name, kind in COLUMNS}
    values = pa.array(np.ascontiguousarray(signatures).reshape(-1), pa.uint32())
    columns["signature"] = pa.FixedSizeListArray.from_arrays(values, signatures.shape[1])
    return pa.table(columns)


def write_index(url: str, config: DedupConfig, tables: Iterable[pa.Table]) -> int:
    """Write an index from tables of `index_table`; return the number of documents."""
    signature = pa.list_(pa.field("element", pa.uint32()), config.num_permutations)
    settings = {**config.to_json(), "keep_signatures": False}
    schema = pa.schema(
        [*COLUMNS, ("signature", signature)],
        metadata={FORMAT_KEY: FORMAT, CONFIG_KEY: json.dumps(settings).encode()},
    )
    folder, _, name = url.rpartition("/")
    documents = 0
    with (
        Storage(folder or ".").create(name) as file,
        pq.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for table in tables:
            writer.write_table(table.cast(schema))
            documents += table.num_rows
    return documents


def _sketch(
    texts: "pa.Array[Any] | pa.ChunkedArray[Any]", languages: list[str | None], config: DedupConfig
) -> tuple[U32, Bools]:
    """Return the signatures of texts, and which texts have a shingle."""
    column = texts if isinstance(texts, pa.ChunkedArray) else pa.chunked_array([texts])
    sketches = ShingleReaders(config).sketch(column, languages)
    return sketches.signatures, sketches.shingle_counts > 0
