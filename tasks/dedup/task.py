"""The stage: signatures per part, one join over all of them, marks beside the documents."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from infra.compute.processes import boot_id
from infra.dataset.code_version import code_digest
from infra.dataset.dataset import (
    SHORT,
    Dataset,
    DatasetNotFoundError,
    IntegrityError,
    PartRef,
    open_dataset,
)
from infra.dataset.fingerprint import bytes_sha256, json_sha256
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.dataset.tables import read_table
from infra.errors import UserError
from infra.formats.unicode_tables import UNICODE_VERSION
from infra.removals.match import Removal, fingerprint_input
from infra.store.storage import Storage, StorageError
from tasks.dedup.candidates.lsh_params import s_curve
from tasks.dedup.config import DedupConfig
from tasks.dedup.minhash.signatures import build_signatures
from tasks.dedup.part_groups import group_parts
from tasks.dedup.pipeline import DedupResult, PreviousResult, find_duplicates
from tasks.dedup.shuffle_plan import ShufflePlan

log = logging.getLogger(__name__)

STAGE = Stage("dedup", modules=("tasks.dedup.task",), libraries=("pyarrow",))
WORK_FOLDER = "work/dedup"  # below the storage root: what passes between the steps of a join
LATEST_FOLDER = (
    "work/dedup-latest"  # which data set to look comparisons up in: a hint, never needed
)
# What the similarity of two texts depends on besides the texts.
COMPARISON_MODULES = ("tasks.dedup.verification.batches", "tasks.dedup.verification.verify")
PART_DIGESTS = "parts.json"  # what the comparisons of each part of the documents rest on, in order


class ClusterTooLargeError(UserError):
    """A cluster or a bucket so large that something is wrong with the input or the recipe."""


def spec(
    ctx: Context,  # noqa: ARG001
    *,
    config: DedupConfig,
    documents: Sequence[Dataset],
    annotations: Sequence[Dataset] = (),
    removals: Sequence[Removal] = (),
) -> DatasetSpec:
    """What would be made of these sources, in the order of the recipe."""
    settings = {**config.to_json(), "unicode": UNICODE_VERSION}
    return DatasetSpec(
        STAGE, None, settings, (*documents, *annotations), fingerprint_input(removals)
    )


def build(
    ctx: Context,
    spec: DatasetSpec,
    *,
    config: DedupConfig,
    documents: Sequence[Dataset],
    annotations: Sequence[Dataset] = (),
    removals: Sequence[Removal] = (),
) -> Dataset:
    """Find exact and near duplicates over all sources.

    Args:
        ctx: the run.
        spec: from `spec`.
        config: the recipe's section.
        documents: the sources' documents.
        annotations: their annotations, where the recipe speaks of languages.
        removals: documents that are treated as if they had never been there.

    Returns:
        A data set whose part k is row-aligned with the k-th part of all ``documents``, and whose
        files ``verified_pairs-*`` and ``rejected_pairs-*`` hold every pair that was compared.

    Raises:
        ImplausibleCopies: if a cluster or a bucket is larger than the recipe allows.
    """
    folder = ctx.storage.subdir(*spec.folder.split("/"))
    try:
        return open_dataset(folder)
    except DatasetNotFoundError:
        pass
    noted: list[Dataset | None] = [*annotations] or [None] * len(documents)
    keys = [
        build_signatures(ctx, config, source, said)
        for source, said in zip(documents, noted, strict=True)
    ]
    rows = ShufflePlan.part_group_rows(config)
    cut = group_parts(
        documents, keys, annotations, rows=rows, scope=config.scope, removals=tuple(removals)
    )
    parts = [part for source in documents for part in source.parts]
    contents = [part.content for part in parts]
    if config.languages:  # annotations have a say in what a text is compared by
        said = [part.content for source in annotations for part in source.parts]
        contents = [json_sha256(pair) for pair in zip(contents, said, strict=True)]
    hint = ctx.storage.subdir(*LATEST_FOLDER.split("/"), ctx.recipe_name or "any")
    scheme = _comparison_key(config)
    earlier, origin = _load_previous(ctx.storage, hint, scheme, parts, contents)
    place = ctx.storage.subdir(*WORK_FOLDER.split("/"), spec.fingerprint[:SHORT])
    work = place.subdir(json_sha256([config.partition_bytes, origin, boot_id()])[:SHORT])
    try:
        found = find_duplicates(ctx, cut, config, work, folder, earlier)
        _check_sizes(config, found)
        units = [
            WorkUnit(json_sha256([part.content, marks]), (part, work, number), part.num_rows)
            for number, (part, marks) in enumerate(zip(parts, found.label_digests, strict=True))
        ]
        bands, width = config.banding
        facts = {**found.stats, "bands": bands, "rows": width, "curve": s_curve(bands, width)}
        data = build_dataset(
            ctx,
            spec,
            units,
            label_part,
            files={PART_DIGESTS: json.dumps(contents).encode()},
            existing_files=found.files,
            stats=lambda _: facts,
        )
    except (FileNotFoundError, StorageError) as error:
        # Another run of the same recipe may have finished first and tidied up.
        try:
            return open_dataset(folder)
        except DatasetNotFoundError:
            raise error from None
    hint.write(f"{scheme}.json", json.dumps({"folder": spec.folder}).encode())
    place.remove_tree()
    return data


def label_part(part: PartRef, work: Storage, number: int) -> Iterator[PartResult]:
    """Put the marks of one part beside its ids."""
    table = part.table(["id", "url"])
    marks = read_table(work, f"labels/{number}.parquet")
    said = ledger_table(STAGE.name, table["id"].to_pylist(), urls=table["url"].to_pylist())
    yield PartResult(marks.add_column(0, "id", table["id"]), said)


def _comparison_key(config: DedupConfig) -> str:
    """What two comparisons must share for one to stand for the other."""
    facts: list[object] = [config.ngram, config.shingle_unit, config.verification, UNICODE_VERSION]
    facts.append({language: way.to_json() for language, way in config.languages.items()})
    if config.verification == "signature":
        facts += [config.num_permutations, config.seed]
    return json_sha256([facts, code_digest(COMPARISON_MODULES, ())])[:SHORT]


def _load_previous(
    storage: Storage,
    hint: Storage,
    comparison_key: str,
    parts: Sequence[PartRef],
    part_digests: Sequence[str],
) -> tuple[PreviousResult | None, str]:
    """The latest data set of this scheme, and its fingerprint, if it shares parts with these."""
    try:
        name = json.loads(hint.read(f"{comparison_key}.json"))["folder"]
        data = open_dataset(storage.subdir(*name.split("/")))
        said = data.read(PART_DIGESTS)
        if bytes_sha256(said) != data.manifest.files[PART_DIGESTS].sha256:
            log.warning(
                "%s/%s: changed; all pairs are compared anew", data.storage.url, PART_DIGESTS
            )
            return None, ""
        theirs = json.loads(said)
    except (
        FileNotFoundError,
        ValueError,
        KeyError,
        TypeError,
        DatasetNotFoundError,
        IntegrityError,
    ):
        return None, ""
    places: dict[str, int] = {}
    starts = np.cumsum([0, *(part.num_rows for part in parts)])
    for content, start in zip(part_digests, starts, strict=False):
        places.setdefault(content, int(start))
    known = {number: places[held] for number, held in enumerate(theirs) if held in places}
    if not known:
        return None, ""
    files = sorted(name for name in data.manifest.files if name != PART_DIGESTS)
    records = [data.manifest.files[name] for name in files]
    return PreviousResult(data.storage, records, known), data.fingerprint


def _check_sizes(config: DedupConfig, result: DedupResult) -> None:
    """Stop before anything is committed if copies are implausibly many."""
    largest = result.stats["largest_clusters"]
    shown = "; ".join(
        f"{item['documents']:,} documents with {_display_name(item['members'][0])}"
        for item in largest
    )
    said = f"The largest clusters: {shown or 'none'}. Nothing was committed"
    if largest and largest[0]["documents"] > config.max_cluster:
        raise ClusterTooLargeError(
            f"dedup: a cluster of {largest[0]['documents']:,} documents; dedup.max_cluster allows "
            f"{config.max_cluster:,}. If these are copies indeed, raise it. {said}"
        )
    if result.largest_bucket > config.max_bucket:
        raise ClusterTooLargeError(
            f"dedup: {result.largest_bucket:,} documents share one band; dedup.max_bucket allows "
            f"{config.max_bucket:,}. Look for boilerplate that all of them have, use more rows, or "
            f"raise it. {said}"
        )


def _display_name(member: Mapping[str, object]) -> str:
    return str(member.get("url") or member.get("title") or member["id"])
