"""The funnel: documents and bytes through every stage, in all and by source, with every reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow.compute as pc

from infra.dataset.dataset import Counts, Dataset
from infra.runs.run_records import RunRecord, StageRecord
from infra.schemas.quality_rules import RULES
from infra.store.storage import Storage
from views.documents.dropped import Drop, sample, with_excerpts

ROAD = ("acquire", "extract", "annotate", "dedup", "select", "tokenize")
SAMPLES = 5  # of each reason
SIGNS = {">=": "at least", "<=": "at most", "==": ""}
PUBLISHED = {rule.name: rule for rules in RULES.values() for rule in rules}
STATEMENTS = {
    "language": "not one of the recipe's languages, or not surely enough",
    "pii": "holds personal data",
    "removed": "taken out on request",
    "url_duplicate": "another version of a page that stays",
    "repeated_lines": "left with too little without the lines that many documents have",
    "repeated_substring": "consists of passages that earlier documents have",
    "exact_duplicate": "the same text as a document that stays, but for case and white space",
    "near_duplicate": "verified to be nearly the same text as a document that stays",
}

Found = Sequence[tuple[StageRecord, Dataset | None]]


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
    samples: list[Drop] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        """The samples' anchor in the page."""
        return f"drop-{self.stage}-{self.reason}"

    @property
    def statement(self) -> str:
        """What the reason means, where it is one of the known rules."""
        rule = PUBLISHED.get(self.reason)
        if rule is None:
            return STATEMENTS.get(self.reason, "")
        limits = {str(drop.evidence.get("threshold")) for drop in self.samples} - {"None"}
        published = _plain(rule.threshold)
        in_force = sorted(
            {_plain(float(item)) if _is_number(item) else item.lower() for item in limits}
        )
        limit = " or ".join(in_force) if in_force else published
        aside = "" if in_force in ([], [published]) else f"published: {published}, "
        where = rule.source.split(",")[0]
        return f"{rule.signal} has to be {SIGNS[rule.comparison]} {limit} ({aside}{where})".replace(
            "  ", " "
        )


@dataclass
class Step:
    """One stage of the funnel, over all sources.

    Attributes:
        carried: documents of sources that this stage does not concern, carried past it.
        text_bytes: of the documents that go on; ``None`` if unknown.
        by_source: counts of each source.
        bytes_by_source: bytes of each source that go on.
        packed: whether bytes are those of compressed archives, at least in part.
    """

    stage: str
    counts: Counts
    carried: int
    text_bytes: int | None
    reasons: list[Reason]
    by_source: dict[str, Counts]
    bytes_by_source: dict[str, int]
    packed: bool = False

    @property
    def came(self) -> int:
        """Documents that stood before this stage."""
        return self.counts.in_ + self.carried

    @property
    def went_on(self) -> int:
        """Documents that stood behind it."""
        return self.counts.kept + self.carried

    @property
    def dropped(self) -> int:
        """Documents that a rule refused."""
        return sum(self.counts.dropped.values())

    @property
    def failed(self) -> int:
        """Documents that something broke."""
        return sum(self.counts.failed.values())


def _plain(limit: float) -> str:
    return str(limit).lower() if isinstance(limit, bool) else f"{limit:g}"


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 1).replace("e", "", 1).isdigit()


def funnel(found: Found) -> list[Step]:
    """The stages of the road that the run reached, in order."""
    sources = list(
        dict.fromkeys(
            entry.source for entry, _ in found if entry.stage == "acquire" and entry.source
        )
    )
    steps: list[Step] = []
    before: Step | None = None
    for stage in ROAD:
        entries = [(entry, data) for entry, data in found if entry.stage == stage]
        if entries:
            before = _step(stage, entries, before, sources, found)
            steps.append(before)
    return steps


def _step(
    stage: str, entries: Found, before: Step | None, sources: Sequence[str], found: Found
) -> Step:
    counts = sum((entry.counts for entry, _ in entries), Counts())
    by_source: dict[str, Counts] = {}
    sizes: dict[str, int] = {}
    for entry, data in entries:
        if entry.source is not None:
            by_source[entry.source] = entry.counts
            sizes[entry.source] = _bytes(entry, data)
        elif data is not None:
            for name, part_counts, part_bytes in _parts_by_source(data, found):
                by_source[name] = by_source.get(name, Counts()) + part_counts
                sizes[name] = sizes.get(name, 0) + part_bytes
            if stage == "tokenize":
                groups: Mapping[str, Mapping[str, int]] = data.facts.get("by_source", {})
                sizes = {name: int(group["bytes"]) for name, group in groups.items()}
    carried = 0
    if before is not None and stage == "extract":
        for name in sources:
            if name not in by_source and name in before.by_source:
                kept = before.by_source[name].kept
                carried += kept
                by_source[name] = Counts(kept, kept)
                sizes[name] = before.bytes_by_source.get(name, 0)
    if stage in ("annotate", "dedup") and before is not None:
        # These stages write marks beside the text: what goes on is what came in, less failures.
        sizes = _marked(entries, before, sizes)
    known = sum(sizes.values()) if sizes or counts.kept + carried == 0 else None
    order = {name: place for place, name in enumerate(sources)}
    by_source = dict(sorted(by_source.items(), key=lambda item: order.get(item[0], len(order))))
    reasons = _reasons(stage, by_source, counts)
    packed = any(_bytes(entry, data) > entry.text_bytes for entry, data in entries)
    return Step(stage, counts, carried, known, reasons, by_source, sizes, packed)


def _marked(entries: Found, before: Step, sizes: dict[str, int]) -> dict[str, int]:
    out = dict(before.bytes_by_source)
    for entry, data in entries:
        lost = entry.counts.in_ != entry.counts.kept
        if entry.stage == "annotate" and entry.source and data is not None and lost:
            columns = [part.table(["bytes"])["bytes"] for part in data.parts]
            out[entry.source] = sum(int(pc.sum(column).as_py() or 0) for column in columns)
    return out or sizes


def _bytes(entry: StageRecord, data: Dataset | None) -> int:
    """Text that goes on; of pages as fetched, the archive that holds them."""
    if entry.text_bytes or data is None or entry.stage != "acquire":
        return entry.text_bytes
    return sum(
        file.bytes
        for part in data.manifest.parts
        for suffix, file in part.files.items()
        if suffix.startswith("warc")
    )


def sources_of_parts(data: Dataset, found: Found) -> list[str] | None:
    """The source of each part of a data set that spans sources.

    Such a stage writes one part per part of documents, in the order of its inputs.
    """
    by_fingerprint = {other.fingerprint: other for _, other in found if other is not None}
    inputs = [by_fingerprint.get(item["fingerprint"]) for item in data.manifest.inputs]
    documents = [item for item in inputs if item and item.stage in ("acquire", "extract")]
    if not documents:
        corpus = next((item for item in inputs if item and item.stage == "select"), None)
        names = sources_of_parts(corpus, found) if corpus is not None else None
    else:
        names = [str(item.source) for item in documents for _ in item.parts]
    return names if names is not None and len(names) == len(data.parts) else None


def _parts_by_source(data: Dataset, found: Found) -> list[tuple[str, Counts, int]]:
    names = sources_of_parts(data, found)
    if names is None:
        return []
    return [
        (name, part.counts, part.text_bytes)
        for name, part in zip(names, data.manifest.parts, strict=True)
    ]


def _reasons(stage: str, by_source: Mapping[str, Counts], counts: Counts) -> list[Reason]:
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


def add_samples(storage: Storage, record: RunRecord, steps: Sequence[Step]) -> None:
    """Give every reason some of its documents, with the beginnings of their texts."""
    reasons = [reason for step in steps for reason in step.reasons]
    drawn = [sample(storage, record, item.stage, item.reason, SAMPLES) for item in reasons]
    found = iter(with_excerpts(storage, record, [drop for drops in drawn for drop in drops]))
    for reason, drops in zip(reasons, drawn, strict=True):
        reason.samples = [next(found) for _ in drops]
