"""Format clusters: as terminal lines with marked differences, or as plain JSON values."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import combining, east_asian_width

from views.documents.texts import sanitize_line
from views.duplicates.clusters import DuplicateData
from views.duplicates.members import (
    DUPLICATE_REASONS,
    Cluster,
    Member,
    RowRef,
    load_member_texts,
    with_metadata,
)
from views.duplicates.word_diff import DELETE, EQUAL, INSERT, MAX_SHOWN, DiffSpan, SpanKind, diff

MAX_KEPT, MAX_DROPPED = 2, 3  # members of a cluster that a list shows: kept ones, and others
MAX_DIFF_LINES = 8  # lines of a difference in a list
MEMBER_BATCH_SIZE = 64  # members whose texts are in memory at a time
INDENT = " " * 11

DiffStyle = Mapping[SpanKind, tuple[str, str]]
PLAIN: DiffStyle = {EQUAL: ("", ""), DELETE: ("[-", "-]"), INSERT: ("{+", "+}")}
# Struck through as well as red: not everybody can tell the colors apart.
ANSI: DiffStyle = {
    EQUAL: ("", ""),
    DELETE: ("\x1b[31;9m", "\x1b[0m"),
    INSERT: ("\x1b[32m", "\x1b[0m"),
}


@dataclass(frozen=True)
class MemberDiff:
    """A member with the differences of its text from the one it is compared with."""

    member: Member
    spans: Sequence[DiffSpan] | None


def preview_members(cluster: Cluster) -> list[Member]:
    """Return the members that a list shows."""
    kept = [member for member in cluster.members if member.compared_to is None or member.kept]
    others = [member for member in cluster.members if member not in kept]
    return [*kept[:MAX_KEPT], *others[:MAX_DROPPED]]


def with_diffs(
    data: DuplicateData, members: Sequence[Member], *, max_shown: int | None = MAX_SHOWN
) -> Iterator[MemberDiff]:
    """Yield members with their metadata and differences."""
    for start in range(0, len(members), MEMBER_BATCH_SIZE):
        batch = with_metadata(data, members[start : start + MEMBER_BATCH_SIZE])
        pairs = [(m.compared_to, m.row_ref) for m in batch if m.compared_to is not None]
        texts = load_member_texts(data, sorted({ref for pair in pairs for ref in pair}))
        for member in batch:
            spans = None
            if member.compared_to is not None:
                old, new = texts[member.compared_to], texts[member.row_ref]
                spans = diff(old, new, max_shown=max_shown)
            yield MemberDiff(member, spans)


def format_heading(cluster: Cluster) -> list[str]:
    """Describe a cluster in two lines."""
    sources = ", ".join(f"{name} {count:,}" for name, count in cluster.sources.items())
    lines = [f"cluster {cluster.id}  {cluster.documents:,} documents: {sources}"]
    if not cluster.selected:
        return [*lines, "  select has not run yet: the others are compared with the first"]
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in cluster.reasons.items())
    lines.append(f"  {cluster.kept:,} kept; dropped: {dropped or 'none'}")
    if not cluster.kept:
        lines[-1] += "; the others are compared with the first"
    return lines


def format_member(
    member_diff: MemberDiff,
    labels: Mapping[RowRef, str],
    *,
    width: int,
    style: DiffStyle = PLAIN,
    max_lines: int | None = MAX_DIFF_LINES,
) -> list[str]:
    """Format a member: its verdict, URL, reason and differences.

    Args:
        member_diff: the member.
        labels: display names of the members that others are compared with.
        width: of the terminal, in columns.
        style: how differences are marked.
        max_lines: lines of the difference that are shown; ``None`` shows all.
    """
    member = member_diff.member
    status = member.verdict or ("first" if member.compared_to is None else "")
    out = [f"  {status:<9}{sanitize_line(display_name(member))}"]
    if member.title and member.url:
        out.append(INDENT + sanitize_line(member.title))
    reference = labels.get(member.compared_to, "the first") if member.compared_to else ""
    out += [INDENT + sanitize_line(line) for line in _format_reason(member_diff, reference)]
    if member_diff.spans is not None:
        lines = wrap_diff(member_diff.spans, width - len(INDENT) - 2, style)
        rest = 0 if max_lines is None else len(lines) - max_lines
        out += [f"{INDENT}| {line}" for line in (lines[:max_lines] if rest > 1 else lines)]
        if rest > 1:
            out.append(f"{INDENT}| … {rest} more lines: --cluster shows all")
    return out


def reference_labels(
    data: DuplicateData, cluster: Cluster, members: Sequence[Member]
) -> dict[RowRef, str]:
    """Return display names of the members that some others are compared with."""
    refs = {member.compared_to for member in members}
    references = [member for member in cluster.members if member.row_ref in refs]
    if cluster.kept <= 1:
        return {m.row_ref: "the kept document" if m.kept else "the first" for m in references}
    return {member.row_ref: display_name(member) for member in with_metadata(data, references)}


def display_name(member: Member) -> str:
    """Return the URL, title or id of a document."""
    return member.url or member.title or f"id {member.id}"


def _format_reason(member_diff: MemberDiff, reference_label: str) -> Iterator[str]:
    member = member_diff.member
    if member.reason is not None and member.reason not in DUPLICATE_REASONS:
        evidence = ", ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in member.evidence.items()
            if value is not None
        )
        yield f"{member.reason} ({evidence})" if evidence else member.reason
    if member.compared_to is None:
        return
    if member.exact:
        kind = "normalized text" if member_diff.spans else "text"
        text = f"the {kind} is equal to that of {reference_label}"
    elif member.similarity is None:
        text = f"not compared with {reference_label}"
    else:
        band = member.band
        how = "compared within the cluster" if band is None else f"candidate pair of band {band}"
        only = "" if member.verified else "only "
        text = f"similarity {only}{member.similarity:.3f} to {reference_label}, {how}"
    yield f"{member.reason}: {text}" if member.reason in DUPLICATE_REASONS else text


def wrap_diff(spans: Sequence[DiffSpan], width: int, style: DiffStyle = PLAIN) -> list[str]:
    """Wrap a difference to lines of at most ``width`` columns; long words are split."""
    escapes = style is ANSI  # have no width, and must not be split
    lines: list[list[tuple[str, SpanKind]]] = [[]]
    used = 0
    for text, kind, spaced in _styled_words(spans, None if escapes else style, max(width, 10)):
        size = _display_width(text)
        space = 1 if spaced and lines[-1] else 0
        if lines[-1] and used + space + size > width:
            lines.append([])
            used, space = 0, 0
        lines[-1].append((" " * space + text, kind))
        used += space + size
    out = [_apply_style(line, style) if escapes else "".join(t for t, _ in line) for line in lines]
    return out if lines[0] else []


def _styled_words(
    spans: Sequence[DiffSpan], style: DiffStyle | None, width: int
) -> Iterator[tuple[str, SpanKind, bool]]:
    for span in spans:
        opening, closing = style[span.kind] if style else ("", "")
        words = span.text.split(" ")
        for index, word in enumerate(words):
            text = opening + word if index == 0 else word
            text = text + closing if index == len(words) - 1 else text
            spaced = span.leading_space if index == 0 else True
            while _display_width(text) > width:  # a text without spaces may be split anywhere
                yield text[: width // 2], span.kind, spaced
                text, spaced = text[width // 2 :], False
            yield text, span.kind, spaced


def _apply_style(line: Sequence[tuple[str, SpanKind]], style: DiffStyle) -> str:
    out, last = "", EQUAL
    for text, kind in line:
        if kind != last:
            out += style[last][1]
            # The space before a word is not styled.
            out += " " * (len(text) - len(text.lstrip())) + style[kind][0] + text.lstrip()
        else:
            out += text
        last = kind
    return out + style[last][1]


def _display_width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def to_json(data: DuplicateData, cluster: Cluster, diffs: Sequence[MemberDiff]) -> dict[str, Any]:
    """Return a cluster with all its members; those that were compared have a ``diff``."""
    spans = {item.member.row_ref: item.spans for item in diffs}
    ids = {member.row_ref: member.id for member in cluster.members}
    members = [
        {
            "id": member.id,
            "url": member.url,
            "title": member.title,
            "source": member.source,
            "part": data.documents[member.row_ref[0]].name,
            "row": member.row_ref[1],
            "exact_group": member.exact_group,
            "verdict": member.verdict,
            "reason": member.reason,
            "evidence": dict(member.evidence),
            "compared_to": ids[member.compared_to] if member.compared_to else None,
            "similarity": member.similarity,
            "verified": member.verified,
            "band": member.band,
            "diff": _spans_to_json(spans.get(member.row_ref)),
        }
        for member in with_metadata(data, cluster.members)
    ]
    return {
        "cluster": cluster.id,
        "documents": cluster.documents,
        "sources": dict(cluster.sources),
        "selected": cluster.selected,
        "kept": cluster.kept,
        "reasons": dict(cluster.reasons),
        "members": members,
    }


def _spans_to_json(spans: Sequence[DiffSpan] | None) -> list[dict[str, Any]] | None:
    if spans is None:
        return None
    return [{"kind": span.kind, "words": span.words, "text": span.text} for span in spans]
