"""The data set of overlaps: which items of suites stand in the training documents, found once for all models."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.fingerprint import json_sha256
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.suffix_array.source_index import DTYPE_KEY, TOKENS_FILE
from tasks.suites.items import Suite, SuiteItem
from tasks.suites.overlap import MIN_WORDS, NGRAM, ItemNgrams, Run, split_words

STAGE = Stage(
    "contamination",
    modules=("tasks.suites.contamination",),
    libraries=("numpy", "pyarrow", "tokenizers"),
)
BATCH_TOKENS = 1 << 20  # decoded at a time
MAX_EXAMPLES = 5  # of a suite

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("suite", pa.string()),
        ("item", pa.string()),
        ("starts", pa.list_(pa.int32())),  # words of the item that stand in training text
        ("ends", pa.list_(pa.int32())),
        ("longest", pa.int64()),  # words of the longest run
        ("documents", pa.int64()),  # documents of this part that hold a run
        # The one with the longest run.
        ("document", pa.string()),
        ("url", pa.string()),
        ("source", pa.string()),
        ("license", pa.string()),
        ("first_token", pa.int64()),  # of the document, in the training split
        ("tokens", pa.int64()),
    ]
)


def build_overlaps(ctx: Context, index: Dataset, suites: Sequence[Suite]) -> Dataset:
    """Look for all items in the training documents, which a data set of the stage `index` holds.

    A part of the index is read once for a set of suites, and again only if it is another part.
    """
    wanted = [(suite.name, item) for suite in suites for item in suite.items]
    texts = [(name, item.id, item.cluster, item_text(item)) for name, item in wanted]
    digest = json_sha256(texts)
    dtype, tokenizer = index.stats[DTYPE_KEY], index.read("tokenizer.json")
    units, start = [], 0
    for part in index.parts:
        key = json_sha256([part.content, start, digest])
        units.append(WorkUnit(key, (part, start, texts, dtype, tokenizer)))
        start += part.record.files[TOKENS_FILE].bytes // np.dtype(dtype).itemsize
    spec = DatasetSpec(STAGE, None, {"ngram": NGRAM, "min_words": MIN_WORDS}, (index,), (digest,))
    return build_dataset(ctx, spec, units, find_overlaps)


def item_text(item: SuiteItem) -> str:
    """Return what is looked for of an item: its context and its answer."""
    if item.contexts:
        return f"{item.context}{item.contexts[item.gold]} {item.answer}"
    return f"{item.context} {item.answer}"


def find_overlaps(
    part: PartRef,
    start: int,
    texts: Sequence[tuple[str, str, str, str]],
    dtype: str,
    tokenizer_json: bytes,
) -> Iterator[PartResult]:
    """Look for items in the training documents of a part.

    Args:
        part: of the index.
        start: its first token in the training split.
        texts: suite, id, cluster and text of each item.
        dtype: of the tokens.
        tokenizer_json: of the tokens.
    """
    ngrams = ItemNgrams([text for *_, text in texts], [f"{s}:{c}" for s, _, c, _ in texts])
    documents = part.table()
    found: dict[int, _ItemOverlap] = {}
    for numbers, words, firsts in _iter_text(part, documents, dtype, tokenizer_json, ngrams):
        for run in ngrams.find(words):
            document = int(numbers[np.searchsorted(firsts, run.position, side="right") - 1])
            found.setdefault(run.item, _ItemOverlap()).add(run, document)
    ends = np.cumsum(documents["tokens"].to_numpy())
    rows = []
    for item, overlap in sorted(found.items()):
        document = documents.slice(overlap.document, 1).to_pylist()[0]
        suite, name, _, _ = texts[item]
        spans = overlap.spans()
        rows.append(
            {
                "id": f"{suite}:{name}",
                "suite": suite,
                "item": name,
                "starts": [first for first, _ in spans],
                "ends": [last for _, last in spans],
                "longest": overlap.longest,
                "documents": len(overlap.documents),
                "document": document["id"],
                **{key: document[key] for key in ("url", "source", "license", "tokens")},
                "first_token": start + int(ends[overlap.document]) - document["tokens"],
            }
        )
    table = pa.Table.from_pylist(rows, SCHEMA)
    yield PartResult(table, ledger_table(STAGE.name, table["id"].to_pylist()))


class _ItemOverlap:
    """What a part holds of an item."""

    def __init__(self) -> None:
        self.longest = self.document = 0
        self.documents: set[int] = set()
        self._runs: list[tuple[int, int]] = []

    def add(self, run: Run, document: int) -> None:
        self.documents.add(document)
        self._runs.append((run.start, run.start + run.words))
        if run.words > self.longest:
            self.longest, self.document = run.words, document

    def spans(self) -> list[tuple[int, int]]:
        return join_spans(self._runs)


def join_spans(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what spans ``[start, end)`` cover together, as disjoint spans in order."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _iter_text(
    part: PartRef,
    documents: pa.Table,
    dtype: str,
    tokenizer_json: bytes,
    ngrams: ItemNgrams,
) -> Iterator[tuple[Any, Any, Any]]:
    """Yield numbers of documents, the ids of their words, separated by 0, and where each begins."""
    tokenizer = Tokenizer.from_buffer(tokenizer_json)
    with part.open(TOKENS_FILE) as file:
        tokens = np.frombuffer(file.read(), dtype)
    ends = np.cumsum(documents["tokens"].to_numpy())
    starts = np.concatenate([[0], ends[:-1]])
    batch_of = starts // BATCH_TOKENS
    for batch in np.unique(batch_of):
        numbers = np.flatnonzero(batch_of == batch)
        ids = [tokens[starts[number] : ends[number]].tolist() for number in numbers]
        texts = tokenizer.decode_batch(ids, skip_special_tokens=True)
        words = [[*ngrams.encode(text), 0] for text in texts]
        sizes = np.array([len(item) for item in words])
        flat = np.array([word for item in words for word in item], np.int64)
        yield numbers, flat, np.cumsum(sizes) - sizes


def contaminated_items(overlaps: Dataset, suites: Sequence[Suite]) -> dict[str, list[str]]:
    """Return, by suite, the items of which training text holds 13 words in a row, or all of them."""
    found: dict[str, set[str]] = {suite.name: set() for suite in suites}
    for part in overlaps.parts:
        table = part.table(["suite", "item"])
        for suite, item in zip(table["suite"].to_pylist(), table["item"].to_pylist(), strict=True):
            found[suite].add(item)
    return {suite: sorted(items) for suite, items in found.items()}


def summarize_overlaps(
    overlaps: Dataset, suites: Sequence[Suite], contaminated: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return by suite: numbers of items, and those with the longest runs, each with a training document.

    ``items`` all, ``contaminated`` those with a run, ``whole`` those of which one document holds all words in
    one piece, ``too_short`` those that were not looked for, and ``examples``.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for row in overlaps.table().to_pylist():
        key = row["suite"], row["item"]
        other = rows.get(key)
        spans = list(zip(row.pop("starts"), row.pop("ends"), strict=True))
        if other is None:
            rows[key] = {**row, "spans": spans}
            continue
        best = row if row["longest"] > other["longest"] else other
        count = row["documents"] + other["documents"]
        rows[key] = {**best, "documents": count, "spans": join_spans([*other["spans"], *spans])}
    return {
        suite.name: _summarize_suite(suite, rows, len(contaminated[suite.name])) for suite in suites
    }


def _summarize_suite(
    suite: Suite, rows: Mapping[tuple[str, str], Mapping[str, Any]], contaminated: int
) -> dict[str, Any]:
    sizes = {item.id: len(split_words(item_text(item))) for item in suite.items}
    own = {name: rows[suite.name, name] for name in sizes if (suite.name, name) in rows}
    order = sorted(own, key=lambda name: (-own[name]["longest"], name))
    keys = ("longest", "documents", "document", "url", "source", "license", "first_token", "tokens")
    return {
        "items": len(sizes),
        "contaminated": contaminated,
        "whole": sum(row["longest"] >= sizes[name] for name, row in own.items()),
        "too_short": sum(size < MIN_WORDS for size in sizes.values()),
        "examples": [
            {
                "item": name,
                "words": sizes[name],
                "covered": sum(end - start for start, end in own[name]["spans"]),
                **{key: own[name][key] for key in keys},
            }
            for name in order[:MAX_EXAMPLES]
        ],
    }
