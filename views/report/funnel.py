"""The funnel: documents and bytes through every stage, in all and by source, with every reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow.compute as pc

from infra.dataset.dataset import Counts, Dataset
from infra.runs.run_records import RunRecord, StageRecord
from infra.schemas.quality_rules import RULES
from infra.store.storage import Storage
from views.documents.dropped import DroppedDocument, sample_reason, with_text

FUNNEL_STAGES = ("acquire", "extract", "annotate", "dedup", "select", "tokenize")
SAMPLES_PER_REASON = 5  # of each reason
COMPARISON_WORDS = {">=": "at least", "<=": "at most", "==": ""}
RULES_BY_NAME = {rule.name: rule for rules in RULES.values() for rule in rules}
REASON_DESCRIPTIONS = {
    "language": "not one of the recipe's languages, or not surely enough",
    "pii": "holds personal data",
    "removed": "taken out on request",
    "url_duplicate": "another version of a page that stays",
    "repeated_lines": "left with too little without the lines that many documents have",
    "repeated_substring": "consists of passages that earlier documents have",
    "exact_duplicate": "the same text as a document that stays, but for case and white space",
    "near_duplicate": "verified to be nearly the same text as a document that stays",
}

OpenedStages = Sequence[tuple[StageRecord, Dataset | None]]


@dataclass
class Reason:
    """Documents that went for one reason at one stage.

    Attributes:
        verdict: ``dropped`` or ``failed``.
        count: how many.
        by_source: how many of each source, where known.
        samples: some of them.
    """

    stage: str
    reason: str
    verdict: str
    count: int
    by_source: dict[str, int] = field(default_factory=dict)
    samples: list[DroppedDocument] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        """The samples' anchor in the page."""
        return f"drop-{self.stage}-{self.reason}"

    @property
    def description(self) -> str:
        """What the reason means, where it is one of the known rules."""
        rule = RULES_BY_NAME.get(self.reason)
        if rule is None:
            return REASON_DESCRIPTIONS.get(self.reason, "")
        limits = {str(drop.evidence.get("threshold")) for drop in self.samples} - {"None"}
        published = _format_threshold(rule.threshold)
        in_force = sorted(
            {
                _format_threshold(float(item)) if _is_number(item) else item.lower()
                for item in limits
            }
        )
        limit = " or ".join(in_force) if in_force else published
        aside = "" if in_force in ([], [published]) else f"published: {published}, "
        where = rule.citation.split(",")[0]
        return f"{rule.signal} has to be {COMPARISON_WORDS[rule.comparison]} {limit} ({aside}{where})".replace(
            "  ", " "
        )


@dataclass
class FunnelStage:
    """One stage of the funnel, over all sources.

    Attributes:
        passed_through: documents of sources that this stage does not concern, carried past it.
        text_bytes: of the documents that go on; ``None`` if unknown.
        by_source: counts of each source.
        bytes_by_source: bytes of each source that go on.
        compressed: whether bytes are those of compressed archives, at least in part.
    """

    stage: str
    counts: Counts
    passed_through: int
    text_bytes: int | None
    reasons: list[Reason]
    by_source: dict[str, Counts]
    bytes_by_source: dict[str, int]
    compressed: bool = False

    @property
    def n_in(self) -> int:
        """Documents that stood before this stage."""
        return self.counts.n_in + self.passed_through

    @property
    def n_out(self) -> int:
        """Documents that stood behind it."""
        return self.counts.kept + self.passed_through

    @property
    def dropped(self) -> int:
        """Documents that a rule refused."""
        return sum(self.counts.dropped.values())

    @property
    def failed(self) -> int:
        """Documents that something broke."""
        return sum(self.counts.failed.values())


def _format_threshold(threshold: float) -> str:
    return str(threshold).lower() if isinstance(threshold, bool) else f"{threshold:g}"


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 1).replace("e", "", 1).isdigit()


def build_funnel(opened: OpenedStages) -> list[FunnelStage]:
    """The stages of the road that the run reached, in order."""
    sources = list(
        dict.fromkeys(
            entry.source for entry, _ in opened if entry.stage == "acquire" and entry.source
        )
    )
    steps: list[FunnelStage] = []
    before: FunnelStage | None = None
    for stage in FUNNEL_STAGES:
        entries = [(entry, data) for entry, data in opened if entry.stage == stage]
        if entries:
            before = _build_stage(stage, entries, before, sources, opened)
            steps.append(before)
    return steps


def _build_stage(
    stage: str,
    entries: OpenedStages,
    previous: FunnelStage | None,
    sources: Sequence[str],
    opened: OpenedStages,
) -> FunnelStage:
    counts = sum((entry.counts for entry, _ in entries), Counts())
    by_source: dict[str, Counts] = {}
    sizes: dict[str, int] = {}
    for entry, data in entries:
        if entry.source is not None:
            by_source[entry.source] = entry.counts
            sizes[entry.source] = _text_bytes(entry, data)
        elif data is not None:
            for name, part_counts, part_bytes in _parts_by_source(data, opened):
                by_source[name] = by_source.get(name, Counts()) + part_counts
                sizes[name] = sizes.get(name, 0) + part_bytes
            if stage == "tokenize":
                groups: Mapping[str, Mapping[str, int]] = data.stats.get("by_source", {})
                sizes = {name: int(group["bytes"]) for name, group in groups.items()}
    carried = 0
    if previous is not None and stage == "extract":
        for name in sources:
            if name not in by_source and name in previous.by_source:
                kept = previous.by_source[name].kept
                carried += kept
                by_source[name] = Counts(kept, kept)
                sizes[name] = previous.bytes_by_source.get(name, 0)
    if stage in ("annotate", "dedup") and previous is not None:
        # These stages write marks beside the text: what goes on is what came in, less failures.
        sizes = _carry_sizes(entries, previous, sizes)
    known = sum(sizes.values()) if sizes or counts.kept + carried == 0 else None
    order = {name: place for place, name in enumerate(sources)}
    by_source = dict(sorted(by_source.items(), key=lambda item: order.get(item[0], len(order))))
    reasons = _collect_reasons(stage, by_source, counts)
    packed = any(_text_bytes(entry, data) > entry.text_bytes for entry, data in entries)
    return FunnelStage(stage, counts, carried, known, reasons, by_source, sizes, packed)


def _carry_sizes(
    entries: OpenedStages, previous: FunnelStage, sizes: dict[str, int]
) -> dict[str, int]:
    out = dict(previous.bytes_by_source)
    for entry, data in entries:
        lost = entry.counts.n_in != entry.counts.kept
        if entry.stage == "annotate" and entry.source and data is not None and lost:
            columns = [part.table(["bytes"])["bytes"] for part in data.parts]
            out[entry.source] = sum(int(pc.sum(column).as_py() or 0) for column in columns)
    return out or sizes


def _text_bytes(entry: StageRecord, data: Dataset | None) -> int:
    """Text that goes on; of pages as fetched, the archive that holds them."""
    if entry.text_bytes or data is None or entry.stage != "acquire":
        return entry.text_bytes
    return sum(
        file.bytes
        for part in data.manifest.parts
        for suffix, file in part.files.items()
        if suffix.startswith("warc")
    )


def part_sources(data: Dataset, opened: OpenedStages) -> list[str] | None:
    """The source of each part of a data set that spans sources.

    Such a stage writes one part per part of documents, in the order of its inputs.
    """
    by_fingerprint = {other.fingerprint: other for _, other in opened if other is not None}
    inputs = [by_fingerprint.get(item["fingerprint"]) for item in data.manifest.inputs]
    documents = [item for item in inputs if item and item.stage in ("acquire", "extract")]
    if not documents:
        corpus = next((item for item in inputs if item and item.stage == "select"), None)
        names = part_sources(corpus, opened) if corpus is not None else None
    else:
        names = [str(item.source) for item in documents for _ in item.parts]
    return names if names is not None and len(names) == len(data.parts) else None


def _parts_by_source(data: Dataset, opened: OpenedStages) -> list[tuple[str, Counts, int]]:
    names = part_sources(data, opened)
    if names is None:
        return []
    return [
        (name, part.counts, part.text_bytes)
        for name, part in zip(names, data.manifest.parts, strict=True)
    ]


def _collect_reasons(stage: str, by_source: Mapping[str, Counts], counts: Counts) -> list[Reason]:
    found = []
    for verdict in ("dropped", "failed"):
        tally: Mapping[str, int] = getattr(counts, verdict)
        for reason, count in tally.items():
            split = {
                name: getattr(own, verdict)[reason]
                for name, own in by_source.items()
                if reason in getattr(own, verdict)
            }
            found.append(Reason(stage, reason, verdict, count, split))
    return sorted(found, key=lambda item: (-item.count, item.reason))


def add_samples(storage: Storage, record: RunRecord, stages: Sequence[FunnelStage]) -> None:
    """Give every reason some of its documents, with the beginnings of their texts."""
    reasons = [reason for step in stages for reason in step.reasons]
    drawn = [
        sample_reason(storage, record, item.stage, item.reason, SAMPLES_PER_REASON)
        for item in reasons
    ]
    found = iter(with_text(storage, record, [drop for drops in drawn for drop in drops]))
    for reason, drops in zip(reasons, drawn, strict=True):
        reason.samples = [next(found) for _ in drops]
