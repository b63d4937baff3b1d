"""Examples of large clusters: a dropped document beside the kept one, differences marked."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from infra.dataset.manifest import DatasetNotFoundError, IntegrityError
from views.duplicates.clusters import ClusterNotFoundError, DuplicateData, select_clusters
from views.duplicates.members import (
    DUPLICATE_REASONS,
    Cluster,
    Member,
    load_clusters,
    load_member_texts,
    with_metadata,
)
from views.duplicates.word_diff import DELETE, EQUAL, INSERT, diff, join_words, split_words
from views.report.report_run import ReportRun

MAX_CLUSTERS = 6  # clusters shown with text
PAIRS_PER_CLUSTER = 2  # dropped members shown of each
MAX_CHARS = 20_000  # of a document that are compared
CONTEXT_WORDS = 40  # of an equal run that are shown on each side of a difference
MAX_SHOWN = 90  # words of one difference that are shown
EXCERPT_WORDS = 180  # words of a text after which its excerpt ends


@dataclass(frozen=True)
class PairExample:
    """A dropped document beside the kept one, with the differences marked."""

    id: str
    url: str | None
    reason: str
    similarity: float
    kept_id: str
    kept_url: str | None
    left: Markup
    right: Markup


@dataclass(frozen=True)
class ClusterExample:
    """One of the largest clusters, with its number of documents."""

    id: str
    documents: int
    pairs: Sequence[PairExample]


def load_examples(run: ReportRun) -> list[ClusterExample]:
    """Load the largest clusters of which a member was dropped as a duplicate."""
    try:
        data = DuplicateData.from_run(run.storage, run.record, run.steps)
    except (ClusterNotFoundError, DatasetNotFoundError, IntegrityError):
        return []  # inputs of the run were deleted
    if data.corpus is None:
        return []
    candidates = []
    for cluster in load_clusters(data, select_clusters(data, 4 * MAX_CLUSTERS)):
        dropped = [
            member
            for member in cluster.members
            if member.reason in DUPLICATE_REASONS and member.compared_to is not None
        ]
        # The least similar pairs show most.
        dropped.sort(key=lambda member: (member.similarity or 1.0, member.id))
        if dropped:
            candidates.append((cluster, dropped[:PAIRS_PER_CLUSTER]))
    # Of equally large clusters the least similar first.
    candidates.sort(key=lambda item: (-item[0].documents, item[1][0].similarity or 1.0, item[0].id))
    examples = []
    for cluster, dropped in candidates[:MAX_CLUSTERS]:
        pairs = _load_pairs(run, data, cluster, dropped)
        if pairs:
            examples.append(ClusterExample(cluster.id, cluster.documents, pairs))
    return examples


def _load_pairs(
    run: ReportRun, data: DuplicateData, cluster: Cluster, dropped: Sequence[Member]
) -> list[PairExample]:
    """Load the texts of dropped members and of those they duplicate, without removed documents."""
    refs = {member.compared_to for member in dropped}
    references = [member for member in cluster.members if member.row_ref in refs]
    members = {member.row_ref: member for member in with_metadata(data, [*references, *dropped])}
    removed = run.find_removed({member.id: member.url for member in members.values()})
    texts = load_member_texts(data, sorted(members), MAX_CHARS)
    pairs = []
    for item in dropped:
        if item.compared_to is None:
            continue
        kept, member = members[item.compared_to], members[item.row_ref]
        if removed & {kept.id, member.id}:
            continue
        left, right = highlight_differences(texts[kept.row_ref], texts[member.row_ref])
        similarity = 1.0 if member.similarity is None else member.similarity
        pairs.append(
            PairExample(
                id=member.id,
                url=member.url,
                reason=str(member.reason),
                similarity=similarity,
                kept_id=kept.id,
                kept_url=kept.url,
                left=left,
                right=right,
            )
        )
    return pairs


def highlight_differences(left: str, right: str) -> tuple[Markup, Markup]:
    """Return excerpts of two texts with the words that differ marked; all of it escaped.

    Long equal runs and long differences are cut in the middle, so that the first difference and
    what follows a long insertion are visible.
    """
    spans = diff(left, right, context=CONTEXT_WORDS, max_shown=MAX_SHOWN)
    if not spans:
        beginning = Markup(escape(join_words(split_words(left)[:EXCERPT_WORDS])))  # noqa: S704
        return beginning, beginning
    sides = []
    for own in (DELETE, INSERT):
        html, shown = Markup(""), 0
        for span in spans:
            if span.kind not in (EQUAL, own):
                continue
            if shown >= EXCERPT_WORDS:
                html += " …"
                break
            text = escape(span.text)
            html += " " if span.leading_space and html else ""
            html += text if span.kind == EQUAL else Markup("<mark>{}</mark>").format(text)
            shown += len(span.text.split())
        sides.append(html)
    return sides[0], sides[1]
