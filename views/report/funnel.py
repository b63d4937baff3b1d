"""The funnel: documents and bytes through every stage, in all and by source, with every reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow.compute as pc

from infra.dataset.dataset import Dataset
from infra.dataset.manifest import Counts
from infra.dataset.step import Output, Step, Steps, steps_with_output
from infra.runs.run_records import StageRecord
from infra.schemas.captures import WARC_SUFFIX
from infra.schemas.quality_rules import RULES
from views.documents.dropped import DroppedDocument

COMPARISON_WORDS = {">=": "at least", "<=": "at most", "==": ""}
RULES_BY_NAME = {rule.name: rule for rules in RULES.values() for rule in rules}
REASON_DESCRIPTIONS = {
    "language": "not one of the recipe's languages, or with too low a score",
    "pii": "holds personal data",
    "removed": "removed on request",
    "url_duplicate": "another version of a page that is kept",
    "repeated_lines": "too short without the lines that many documents have",
    "repeated_substring": "consists of passages that earlier documents have",
    "exact_duplicate": "same text as a document that is kept, ignoring case and white space",
    "near_duplicate": "verified to be nearly the same text as a document that is kept",
}

OpenedStages = Sequence[tuple[StageRecord, Dataset | None]]


@dataclass
class Reason:
    """Documents that one stage dropped or failed for one reason, with samples of them.

    Attributes:
        verdict: ``dropped`` or ``failed``.
        count: how many documents.
        by_source: how many of each source, where known.
    """

    stage: str
    reason: str
    verdict: str
    count: int
    by_source: dict[str, int] = field(default_factory=dict)
    samples: list[DroppedDocument] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        """Anchor of its samples in the page."""
        return f"drop-{self.stage}-{self.reason}"

    @property
    def description(self) -> str:
        """What the reason means, if it is known, with the active and the published threshold."""
        rule = RULES_BY_NAME.get(self.reason)
        if rule is None:
            return REASON_DESCRIPTIONS.get(self.reason, "")
        published = _format_threshold(rule.threshold)
        thresholds = (drop.evidence.get("threshold") for drop in self.samples)
        active = sorted({_format_threshold(item) for item in thresholds if item is not None})
        shown = " or ".join(active) or published
        aside = "" if active in ([], [published]) else f"published: {published}, "
        citation = rule.citation.split(",")[0]
        comparison = f"has to be {COMPARISON_WORDS[rule.comparison]} {shown}".replace("  ", " ")
        return f"{rule.signal} {comparison} ({aside}{citation})"


def _format_threshold(threshold: object) -> str:
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        return str(threshold).lower()
    return f"{threshold:g}"


@dataclass
class FunnelStage:
    """One stage of the funnel, over all sources.

    Attributes:
        passed_through: documents of sources that this stage does not process.
        text_bytes: bytes of the documents that leave the stage; ``None`` if unknown.
        reasons: why documents were dropped or failed, most frequent first.
        compressed: whether some bytes are those of compressed archives.
    """

    stage: str
    output: Output
    counts: Counts
    passed_through: int
    text_bytes: int | None
    reasons: list[Reason]
    by_source: dict[str, Counts]
    bytes_by_source: dict[str, int]
    compressed: bool = False

    @property
    def n_in(self) -> int:
        """Documents before this stage."""
        return self.counts.n_in + self.passed_through

    @property
    def n_out(self) -> int:
        """Documents after this stage."""
        return self.counts.kept + self.passed_through

    @property
    def dropped(self) -> int:
        """Documents dropped by a rule."""
        return sum(self.counts.dropped.values())

    @property
    def failed(self) -> int:
        """Documents that failed with an error."""
        return sum(self.counts.failed.values())

    @property
    def only_labels(self) -> bool:
        """Whether the stage writes columns beside the documents and drops none."""
        return self.output in ("annotations", "duplicate_labels")


def build_funnel(opened: OpenedStages, steps: Steps) -> list[FunnelStage]:
    """Return the stages that process documents and that the run completed, in order."""
    names = (entry.source for entry, _ in opened if entry.stage == steps[0].name)
    sources = list(dict.fromkeys(name for name in names if name))
    stages: list[FunnelStage] = []
    for step in steps:
        if not (step.counts_from or step is steps[0]):
            continue
        entries = [(entry, data) for entry, data in opened if entry.stage == step.name]
        if entries:
            previous = stages[-1] if stages else None
            stages.append(_build_stage(step, entries, previous, sources, opened, steps))
    return stages


def _build_stage(
    step: Step[...],
    entries: OpenedStages,
    previous: FunnelStage | None,
    sources: Sequence[str],
    opened: OpenedStages,
    steps: Steps,
) -> FunnelStage:
    counts = sum((entry.counts for entry, _ in entries), Counts())
    by_source: dict[str, Counts] = {}
    sizes: dict[str, int] = {}
    for entry, data in entries:
        if entry.source is not None:
            by_source[entry.source] = entry.counts
            sizes[entry.source] = _text_bytes(entry, data)
        elif data is not None:
            for name, part in zip(
                part_sources(data, opened, steps), data.manifest.parts, strict=False
            ):
                by_source[name] = by_source.get(name, Counts()) + part.counts
                sizes[name] = sizes.get(name, 0) + part.text_bytes
            if step.output == "tokens":
                groups: Mapping[str, Mapping[str, int]] = data.stats.get("by_source", {})
                sizes = {name: int(group["bytes"]) for name, group in groups.items()}
    passed_through = 0
    if previous is not None and step.output == "documents":
        # A source whose documents are text already needs no extraction.
        for name in sources:
            if name not in by_source and name in previous.by_source:
                kept = previous.by_source[name].kept
                passed_through += kept
                by_source[name] = Counts(kept, kept)
                sizes[name] = previous.bytes_by_source.get(name, 0)
    if previous is not None and step.output in ("annotations", "duplicate_labels"):
        # These stages write columns beside the text: all but the failed documents stay.
        sizes = _carry_sizes(entries, previous, sizes)
    known = sum(sizes.values()) if sizes or counts.kept + passed_through == 0 else None
    order = {name: index for index, name in enumerate(sources)}
    by_source = dict(sorted(by_source.items(), key=lambda item: order.get(item[0], len(order))))
    return FunnelStage(
        step.name,
        step.output,
        counts,
        passed_through,
        known,
        _collect_reasons(step.name, by_source, counts),
        by_source,
        sizes,
        compressed=any(_text_bytes(entry, data) > entry.text_bytes for entry, data in entries),
    )


def _carry_sizes(
    entries: OpenedStages, previous: FunnelStage, sizes: dict[str, int]
) -> dict[str, int]:
    """Return the sizes of the stage before; recounted for sources with failed documents."""
    carried = dict(previous.bytes_by_source)
    for entry, data in entries:
        if entry.source and data is not None and entry.counts.n_in != entry.counts.kept:
            columns = [part.table(["bytes"])["bytes"] for part in data.parts]
            carried[entry.source] = sum(int(pc.sum(column).as_py() or 0) for column in columns)
    return carried or sizes


def _text_bytes(entry: StageRecord, data: Dataset | None) -> int:
    """Return the bytes of text; for pages as fetched, those of the archives that hold them."""
    if entry.text_bytes or data is None:
        return entry.text_bytes
    return sum(
        part.files[WARC_SUFFIX].bytes for part in data.manifest.parts if WARC_SUFFIX in part.files
    )


def part_sources(data: Dataset, opened: OpenedStages, steps: Steps) -> list[str]:
    """Return the source of each part of a data set that spans sources; empty if unknown.

    Such a stage writes one part per part of documents, in the order of its inputs.
    """
    by_fingerprint = {other.fingerprint: other for _, other in opened if other is not None}
    inputs = [by_fingerprint.get(item["fingerprint"]) for item in data.manifest.inputs]
    document_stages = steps_with_output(steps, "documents")
    documents = [item for item in inputs if item and item.stage in document_stages]
    if documents:
        names = [str(item.source) for item in documents for _ in item.parts]
    else:
        corpus_stages = steps_with_output(steps, "corpus")
        corpus = next((item for item in inputs if item and item.stage in corpus_stages), None)
        names = part_sources(corpus, opened, steps) if corpus is not None else []
    return names if len(names) == len(data.parts) else []


def _collect_reasons(stage: str, by_source: Mapping[str, Counts], counts: Counts) -> list[Reason]:
    reasons = []
    for verdict in ("dropped", "failed"):
        total: Mapping[str, int] = getattr(counts, verdict)
        for reason, count in total.items():
            split = {
                name: getattr(own, verdict)[reason]
                for name, own in by_source.items()
                if reason in getattr(own, verdict)
            }
            reasons.append(Reason(stage, reason, verdict, count, split))
    return sorted(reasons, key=lambda item: (-item.count, item.reason))
