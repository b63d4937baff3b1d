"""The stage: signatures per part, one join over all of them, marks beside the documents."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from infra.compute.processes import boot
from infra.dataset.code_version import code_digest
from infra.dataset.dataset import (
    SHORT,
    BrokenPromise,
    Dataset,
    NotCommitted,
    PartRef,
    open_dataset,
    read_table,
)
from infra.dataset.fingerprint import digest, digest_bytes
from infra.dataset.ledger import verdicts
from infra.dataset.stage import Context, Outcome, Spec, Stage, Unit
from infra.dataset.stage import build as build_dataset
from infra.dataset.step import Step
from infra.errors import UserError
from infra.formats.unicode_tables import VERSION
from infra.removals.match import Removal, raw
from infra.store.storage import Storage, StorageError
from tasks.dedup.candidates.lsh_params import curve
from tasks.dedup.config import DedupConfig
from tasks.dedup.minhash.signatures import build_signatures
from tasks.dedup.part_groups import blocks
from tasks.dedup.pipeline import Earlier, Joined, join
from tasks.dedup.shuffle_plan import Layout

log = logging.getLogger(__name__)

STAGE = Stage("dedup", modules=("tasks.dedup.task",), libraries=("pyarrow",))
WORK = "work/dedup"  # below the storage root: what passes between the steps of a join
LATEST = "work/dedup-latest"  # which data set to look comparisons up in: a hint, never needed
# What the similarity of two texts depends on besides the texts.
COMPARISON = ("tasks.dedup.verification.batches", "tasks.dedup.verification.verify")
CONTENTS = "parts.json"  # what the comparisons of each part of the documents rest on, in order


class ImplausibleCopies(UserError):
    """A cluster or a bucket so large that something is wrong with the input or the recipe."""


def spec(
    ctx: Context,  # noqa: ARG001
    *,
    config: DedupConfig,
    documents: Sequence[Dataset],
    notes: Sequence[Dataset] = (),
    removals: Sequence[Removal] = (),
) -> Spec:
    """What would be made of these sources, in the order of the recipe."""
    settings = {**config.facts(), "unicode": VERSION}
    return Spec(STAGE, None, settings, (*documents, *notes), raw(removals))


def build(
    ctx: Context,
    spec: Spec,
    *,
    config: DedupConfig,
    documents: Sequence[Dataset],
    notes: Sequence[Dataset] = (),
    removals: Sequence[Removal] = (),
) -> Dataset:
    """Find exact and near duplicates over all sources.

    Args:
        ctx: the run.
        spec: from `spec`.
        config: the recipe's section.
        documents: the sources' documents.
        notes: their annotations, where the recipe speaks of languages.
        removals: documents that are treated as if they had never been there.

    Returns:
        A data set whose part k is row-aligned with the k-th part of all ``documents``, and whose
        files ``edges-*`` and ``rejected-*`` hold every pair that was compared.

    Raises:
        ImplausibleCopies: if a cluster or a bucket is larger than the recipe allows.
    """
    folder = ctx.storage.at(*spec.folder.split("/"))
    try:
        return open_dataset(folder)
    except NotCommitted:
        pass
    noted: list[Dataset | None] = [*notes] or [None] * len(documents)
    keys = [
        build_signatures(ctx, config, source, said)
        for source, said in zip(documents, noted, strict=True)
    ]
    rows = Layout.block_rows(config)
    cut = blocks(documents, keys, notes, rows=rows, scope=config.scope, removals=tuple(removals))
    parts = [part for source in documents for part in source.parts]
    contents = [part.content for part in parts]
    if config.languages:  # annotations have a say in what a text is compared by
        said = [part.content for source in notes for part in source.parts]
        contents = [digest(pair) for pair in zip(contents, said, strict=True)]
    hint = ctx.storage.at(*LATEST.split("/"), ctx.recipe or "any")
    scheme = _scheme(config)
    earlier, origin = _earlier(ctx.storage, hint, scheme, parts, contents)
    place = ctx.storage.at(*WORK.split("/"), spec.fingerprint[:SHORT])
    work = place.at(digest([config.partition_bytes, origin, boot()])[:SHORT])
    try:
        found = join(ctx, cut, config, work, folder, earlier)
        _alarm(config, found)
        units = [
            Unit(digest([part.content, marks]), (part, work, number), part.rows)
            for number, (part, marks) in enumerate(zip(parts, found.marks, strict=True))
        ]
        bands, width = config.banding
        facts = {**found.facts, "bands": bands, "rows": width, "curve": curve(bands, width)}
        data = build_dataset(
            ctx,
            spec,
            units,
            mark,
            files={CONTENTS: json.dumps(contents).encode()},
            placed=found.files,
            facts=lambda _: facts,
        )
    except (FileNotFoundError, StorageError) as error:
        # Another run of the same recipe may have finished first and tidied up.
        try:
            return open_dataset(folder)
        except NotCommitted:
            raise error from None
    hint.put(f"{scheme}.json", json.dumps({"folder": spec.folder}).encode())
    place.remove_tree()
    return data


def mark(part: PartRef, work: Storage, number: int) -> Iterator[Outcome]:
    """Put the marks of one part beside its ids."""
    table = part.table(["id", "url"])
    marks = read_table(work, f"marked/{number}.parquet")
    said = verdicts(STAGE.name, table["id"].to_pylist(), urls=table["url"].to_pylist())
    yield Outcome(marks.add_column(0, "id", table["id"]), said)


def _scheme(config: DedupConfig) -> str:
    """What two comparisons must share for one to stand for the other."""
    facts: list[object] = [config.ngram, config.unit, config.verify, VERSION]
    facts.append({language: way.facts() for language, way in config.languages.items()})
    if config.verify == "signature":
        facts += [config.permutations, config.seed]
    return digest([facts, code_digest(COMPARISON, ())])[:SHORT]


def _earlier(
    storage: Storage,
    hint: Storage,
    scheme: str,
    parts: Sequence[PartRef],
    contents: Sequence[str],
) -> tuple[Earlier | None, str]:
    """The latest data set of this scheme, and its fingerprint, if it shares parts with these."""
    try:
        name = json.loads(hint.read(f"{scheme}.json"))["folder"]
        data = open_dataset(storage.at(*name.split("/")))
        said = data.read(CONTENTS)
        if digest_bytes(said) != data.manifest.files[CONTENTS].sha256:
            log.warning("%s/%s: changed; all pairs are compared anew", data.storage.url, CONTENTS)
            return None, ""
        theirs = json.loads(said)
    except (FileNotFoundError, ValueError, KeyError, TypeError, NotCommitted, BrokenPromise):
        return None, ""
    places: dict[str, int] = {}
    starts = np.cumsum([0, *(part.rows for part in parts)])
    for content, start in zip(contents, starts, strict=False):
        places.setdefault(content, int(start))
    known = {number: places[held] for number, held in enumerate(theirs) if held in places}
    if not known:
        return None, ""
    files = sorted(name for name in data.manifest.files if name != CONTENTS)
    records = [data.manifest.files[name] for name in files]
    return Earlier(data.storage, records, known), data.fingerprint


def _alarm(config: DedupConfig, found: Joined) -> None:
    """Stop before anything is committed if copies are implausibly many."""
    largest = found.facts["largest_clusters"]
    shown = "; ".join(
        f"{item['documents']:,} documents with {_address(item['members'][0])}" for item in largest
    )
    said = f"The largest clusters: {shown or 'none'}. Nothing was committed"
    if largest and largest[0]["documents"] > config.max_cluster:
        raise ImplausibleCopies(
            f"dedup: a cluster of {largest[0]['documents']:,} documents; dedup.max_cluster allows "
            f"{config.max_cluster:,}. If these are copies indeed, raise it. {said}"
        )
    if found.largest_bucket > config.max_bucket:
        raise ImplausibleCopies(
            f"dedup: {found.largest_bucket:,} documents share one band; dedup.max_bucket allows "
            f"{config.max_bucket:,}. Look for boilerplate that all of them have, use more rows, or "
            f"raise it. {said}"
        )


def _address(member: Mapping[str, object]) -> str:
    return str(member.get("url") or member.get("title") or member["id"])


dedup = Step("dedup", spec, build)
