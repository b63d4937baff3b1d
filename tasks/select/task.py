"""The stage: rules per part, one election over all copies, then the corpus part by part."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from infra.compute.progress import Progress
from infra.dataset.dataset import SHORT, BrokenPromise, Dataset, NotCommitted, open_dataset
from infra.dataset.fingerprint import digest
from infra.dataset.stage import Context, Outcome, Spec, Stage, Unit
from infra.dataset.stage import build as build_dataset
from infra.dataset.step import Step
from infra.errors import UserError
from infra.removals.match import Removal, raw
from infra.schemas.duplicate_pairs import EDGES
from infra.store.storage import Storage, StorageError
from tasks.select.cluster_selection import gather, hold, send_pairs, survey
from tasks.select.config import Gates, SelectConfig
from tasks.select.repeated_text.line_dedup import REASON as LINES
from tasks.select.repeated_text.pass_state import state
from tasks.select.repeated_text.passes import run_levels
from tasks.select.repeated_text.substring_dedup import REASON as SUBSTRINGS
from tasks.select.repeated_text.url_dedup import REASON as ADDRESS
from tasks.select.repeated_text.url_dedup import elect_addresses, send_addresses
from tasks.select.selection_shuffle import DIGITS, Poll
from tasks.select.survivors import EXACT, NEAR
from tasks.select.write_part import STAGE as NAME
from tasks.select.write_part import Triple, write

STAGE = Stage(NAME, modules=("tasks.select.task",), libraries=("pyarrow",))
SHOWN_CLUSTERS = 10
# Documents with copies, and verified pairs, that a worker looks at together.
CANDIDATES, PAIRS = 200_000, 2_000_000
LIMIT = 16**DIGITS


class ImplausibleLoss(UserError):
    """A source loses so large a share of its documents to duplication that something is wrong."""


def spec(
    ctx: Context,  # noqa: ARG001
    *,
    config: SelectConfig,
    documents: Sequence[Dataset],
    notes: Sequence[Dataset],
    marks: Dataset,
    removals: Sequence[Removal] = (),
) -> Spec:
    """What would be made of these data sets, less what was taken out.

    Raises:
        UserError: if ``overrides`` names a source that is not in the recipe.
    """
    names = [data.source for data in documents]
    for source in config.overrides:
        if source not in names:
            known = ", ".join(sorted(str(name) for name in names))
            raise UserError(
                f"select.overrides.{source}: no source has this name; there are {known}"
            )
    return Spec(STAGE, None, config.facts(), (*documents, *notes, marks), raw(removals))


def build(
    ctx: Context,
    spec: Spec,
    *,
    config: SelectConfig,
    documents: Sequence[Dataset],
    notes: Sequence[Dataset],
    marks: Dataset,
    removals: Sequence[Removal] = (),
) -> Dataset:
    """Choose the corpus.

    A document that was taken out is dropped before any rule is asked and has no part in the
    election. Only parts that hold such a document, or a copy of one, are written anew.

    Raises:
        ImplausibleLoss: if a source loses more than ``max_source_loss`` to duplication.
        BrokenPromise: if documents, notes and marks do not belong together.
    """
    try:
        return _build(ctx, spec, config, documents, notes, marks, removals)
    except (OSError, StorageError) as error:
        # Another run of the same recipe may have finished first and tidied up.
        try:
            return open_dataset(ctx.storage.at(*spec.folder.split("/")))
        except NotCommitted:
            raise error from None


def _build(
    ctx: Context,
    spec: Spec,
    config: SelectConfig,
    documents: Sequence[Dataset],
    notes: Sequence[Dataset],
    marks: Dataset,
    removals: Sequence[Removal],
) -> Dataset:
    triples = _triples(documents, notes, marks)
    gates = [config.gates(data.source) for data in documents]
    work = ctx.storage.at("work", "select", spec.fingerprint[:SHORT])
    poll = _poll(work, config, triples, marks)
    passed = [0] * len(documents)
    payloads = [
        (poll, part, triple, gates[triple.source], removals) for part, triple in enumerate(triples)
    ]
    losses = _elect_addresses(ctx, poll, payloads)
    for done, (part, count) in enumerate(ctx.cluster.map(survey, payloads), 1):
        passed[triples[part].source] += count
        note = f"{done:,} of {len(triples):,} parts judged"
        ctx.reporter.update(Progress(STAGE.name, None, 0, len(triples), note))
    losses += _elect(ctx, poll, marks)
    _alarm(config, documents, passed, losses, marks)
    known = dict(ctx.cluster.map(gather, [(poll, part) for part in poll.parts]))
    level, lost, trimmed = run_levels(ctx, work, config, documents, triples, known)
    losses += lost
    _alarm(config, documents, passed, losses, marks)
    units = [
        Unit(
            digest([t.documents.content, t.notes.content, t.marks.content, t.source, known[part]]),
            (t, gates[t.source], work, level, part),
            t.notes.rows,
        )
        for part, t in enumerate(triples)
    ]
    reasons = [ADDRESS] * config.one_per_url + [EXACT, NEAR]
    reasons += [LINES] * bool(config.lines) + [SUBSTRINGS] * bool(config.substrings)
    facts = {
        "sources": {
            str(data.source): {
                "passed_rules": passed[place],
                **{reason: losses[place, reason] for reason in reasons},
                **{f"trimmed_{reason}": n for (at, reason), n in trimmed.items() if at == place},
            }
            for place, data in enumerate(documents)
        }
    }
    data = build_dataset(ctx, spec, units, corpus, facts=lambda _: facts)
    work.remove_tree()
    return data


def corpus(triple: Triple, gates: Gates, work: Storage, level: int, part: int) -> Iterator[Outcome]:
    """The corpus of one part, after the elections and the levels up to this one."""
    known = state(work, level, part)
    yield from write(triple, gates, known["dropped"], known["trimmed"])


def _poll(work: Storage, config: SelectConfig, triples: Sequence[Triple], marks: Dataset) -> Poll:
    """The election, cut so that a worker holds a bounded number of candidates."""
    starts = np.cumsum([0, *(triple.documents.rows for triple in triples)])
    documents = marks.facts["clustered_documents"]
    pairs = marks.facts["verified"] + marks.facts["within_clusters_verified"]
    partitions = 1
    while partitions < LIMIT and partitions < max(documents / CANDIDATES, pairs / PAIRS):
        partitions *= 2
    addresses = -(-int(starts[-1]) // CANDIDATES) if config.one_per_url else 0
    return Poll(work, partitions, tuple(starts.tolist()), config.survivor, addresses)


def _elect_addresses(
    ctx: Context, poll: Poll, payloads: Sequence[tuple[Any, ...]]
) -> Counter[tuple[int, str]]:
    """Elect one document per web address, if the recipe asks for it; what each source loses."""
    losses: Counter[tuple[int, str]] = Counter()
    if poll.addresses:
        for _ in ctx.cluster.map(send_addresses, payloads):
            pass
    held = [(poll, partition) for partition in range(poll.addresses)]
    for _, found in ctx.cluster.map(elect_addresses, held):
        for source, reason, count in found:
            losses[source, reason] += count
    return losses


def _elect(ctx: Context, poll: Poll, marks: Dataset) -> Counter[tuple[int, str]]:
    """Hold the election; how many documents each source loses, by reason."""
    files = [
        record.name
        for name, record in sorted(marks.manifest.files.items())
        if name.startswith(EDGES)
    ]
    sent = [(poll, sender, marks.storage, file) for sender, file in enumerate(files)]
    for _ in ctx.cluster.map(send_pairs, sent):
        pass
    losses: Counter[tuple[int, str]] = Counter()
    held = [(poll, partition, len(files)) for partition in range(poll.partitions)]
    for _, found in ctx.cluster.map(hold, held):
        for source, reason, count in found:
            losses[source, reason] += count
    return losses


def _triples(
    documents: Sequence[Dataset], notes: Sequence[Dataset], marks: Dataset
) -> list[Triple]:
    parts = [
        (source, texts, noted)
        for source, (data, annotated) in enumerate(zip(documents, notes, strict=True))
        for texts, noted in zip(data.parts, annotated.parts, strict=True)
    ]
    out = []
    for (source, texts, noted), marked in zip(parts, marks.parts, strict=True):
        if noted.name != texts.name or marked.rows != texts.rows or noted.rows > texts.rows:
            raise BrokenPromise(
                f"{texts.storage.url} part {texts.name}: {texts.rows} documents, but "
                f"{noted.rows} notes in part {noted.name} and {marked.rows} marks"
            )
        out.append(Triple(source, texts, noted, marked))
    return out


def _alarm(
    config: SelectConfig,
    documents: Sequence[Dataset],
    passed: Sequence[int],
    losses: Mapping[tuple[int, str], int],
    marks: Dataset,
) -> None:
    """Stop before anything is committed if a source loses too much."""
    for place, data in enumerate(documents):
        gone = sum(count for (source, _), count in losses.items() if source == place)
        had = passed[place]
        if had < config.min_source_documents or gone <= config.max_source_loss * had:
            continue
        largest = [
            f"{cluster['documents']} documents with {_address(cluster['members'][0])}"
            for cluster in marks.facts["largest_clusters"]
            if str(data.source) in cluster["sources"]
        ]
        raise ImplausibleLoss(
            f"select: source {data.source!r} would lose {gone} of its {had} documents "
            f"({gone / had:.1%}) to duplication; select.max_source_loss allows "
            f"{config.max_source_loss:.0%}. Its largest clusters: "
            f"{'; '.join(largest[:SHOWN_CLUSTERS]) or 'none among the ten largest of all'} "
            f"(gristmill clusters RECIPE --source {data.source} shows more). "
            f"If these are copies indeed, raise select.max_source_loss; nothing was committed"
        )


def _address(member: Mapping[str, Any]) -> str:
    return str(member.get("url") or member.get("title") or member["id"])


select = Step("select", spec, build)
