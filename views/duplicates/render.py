"""Clusters for a reader: lines of a terminal with what differs marked, or plain JSON values."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import combining, east_asian_width

from views.documents.texts import one_line
from views.duplicates.clusters import Copies
from views.duplicates.members import COPIES, Cluster, Member, Place, described, texts
from views.duplicates.word_diff import EQUAL, GONE, LONGEST, NEW, Kind, Piece, diff

STAY, WENT = 2, 3  # members of a cluster that a list shows: that stay, and others
LINES = 8  # of a difference in a list
BATCH = 64  # members whose texts are held at a time
INDENT = " " * 11

Paint = Mapping[Kind, tuple[str, str]]
PLAIN: Paint = {EQUAL: ("", ""), GONE: ("[-", "-]"), NEW: ("{+", "+}")}
# Struck through as well as red: colours alone do not tell everybody.
COLOURED: Paint = {
    EQUAL: ("", ""),
    GONE: ("\x1b[31;9m", "\x1b[0m"),
    NEW: ("\x1b[32m", "\x1b[0m"),
}


@dataclass(frozen=True)
class Compared:
    """A member with what its text differs by from the one it is compared with."""

    member: Member
    pieces: Sequence[Piece] | None


def shown(cluster: Cluster) -> list[Member]:
    """The members that a list shows."""
    stay = [m for m in cluster.members if m.against is None or m.stays]
    rest = [m for m in cluster.members if m not in stay]
    return [*stay[:STAY], *rest[:WENT]]


def compared(
    copies: Copies, members: Sequence[Member], *, longest: int | None = LONGEST
) -> Iterator[Compared]:
    """Members one after the other, with their addresses and differences."""
    for start in range(0, len(members), BATCH):
        batch = described(copies, members[start : start + BATCH])
        ends = {m.against for m in batch if m.against} | {m.place for m in batch if m.against}
        held = texts(copies, sorted(ends))
        for member in batch:
            pieces = None
            if member.against is not None:
                one, other = held[member.against], held[member.place]
                pieces = diff(one, other, longest=longest)
            yield Compared(member, pieces)


def heading(cluster: Cluster) -> list[str]:
    """What a cluster is, in two lines."""
    sources = ", ".join(f"{name} {count:,}" for name, count in cluster.sources.items())
    lines = [f"cluster {cluster.name}  {cluster.documents:,} documents: {sources}"]
    if not cluster.judged:
        return [*lines, "  select has not run yet: the others are compared with the first"]
    went = ", ".join(f"{reason} {count:,}" for reason, count in cluster.reasons.items())
    stay = cluster.stay
    head = f"{stay:,} {'stays' if stay == 1 else 'stay'}" if stay else "none stays"
    lines.append(f"  {head}; went: {went or 'none'}")
    if not stay:
        lines[-1] += "; the others are compared with the first"
    return lines


def paragraph(
    item: Compared,
    names: Mapping[Place, str],
    *,
    width: int,
    paint: Paint = PLAIN,
    lines: int | None = LINES,
) -> list[str]:
    """A member in some lines: what became of it, its address, why, and what differs.

    Args:
        item: the member.
        names: what to call the members that others are compared with.
        width: of the terminal, in columns.
        paint: how differences are marked.
        lines: of the difference that are shown; ``None`` shows all.
    """
    member = item.member
    if member.stays:
        fate = "stays"
    else:
        fate = member.verdict or ("first" if member.against is None else "")
    out = [f"  {fate:<9}{one_line(name_of(member))}"]
    if member.title and member.url:
        out.append(INDENT + one_line(member.title))
    to = names.get(member.against, "the first") if member.against else ""
    out += [INDENT + one_line(line) for line in _why(item, to)]
    if item.pieces is not None:
        found = wrapped(item.pieces, width - len(INDENT) - 2, paint)
        rest = 0 if lines is None else len(found) - lines
        out += [f"{INDENT}| {line}" for line in (found[:lines] if rest > 1 else found)]
        if rest > 1:
            out.append(f"{INDENT}| … {rest} more lines: --cluster shows all")
    return out


def heads(copies: Copies, cluster: Cluster, members: Sequence[Member]) -> dict[Place, str]:
    """What to call the members that some others are compared with."""
    places = {member.against for member in members}
    found = [member for member in cluster.members if member.place in places]
    if cluster.stay <= 1:
        return {m.place: "the one that stays" if m.stays else "the first" for m in found}
    return {member.place: name_of(member) for member in described(copies, found)}


def name_of(member: Member) -> str:
    """What a reader knows a document by."""
    return member.url or member.title or f"id {member.id}"


def _why(item: Compared, to: str) -> Iterator[str]:
    member = item.member
    if member.reason is not None and member.reason not in COPIES:
        said = ", ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in member.evidence.items()
            if value is not None
        )
        yield f"{member.reason} ({said})" if said else member.reason
    if member.against is None:
        return
    if member.exact:
        what = f"the {'normalised ' if item.pieces else ''}text is equal to {to}"
    elif member.similarity is None:
        what = f"not compared with {to}"
    else:
        band = member.band
        how = "compared within the cluster" if band is None else f"nominated by band {band}"
        said = "" if member.verified else "only "
        what = f"similarity {said}{member.similarity:.3f} to {to}, {how}"
    yield f"{member.reason}: {what}" if member.reason in COPIES else what


def wrapped(pieces: Sequence[Piece], width: int, paint: Paint = PLAIN) -> list[str]:
    """A difference as lines of at most so many columns, as far as words allow."""
    coloured = paint is COLOURED
    lines: list[list[tuple[str, Kind]]] = [[]]
    used = 0
    for text, kind, spaced in _tokens(pieces, None if coloured else paint, max(width, 10)):
        size = _columns(text)
        space = 1 if spaced and lines[-1] else 0
        if lines[-1] and used + space + size > width:
            lines.append([])
            used, space = 0, 0
        lines[-1].append((" " * space + text, kind))
        used += space + size
    out = [_painted(line, paint) if coloured else "".join(t for t, _ in line) for line in lines]
    return out if lines[0] else []


def _tokens(
    pieces: Sequence[Piece], marks: Paint | None, width: int
) -> Iterator[tuple[str, Kind, bool]]:
    for piece in pieces:
        opening, closing = marks[piece.kind] if marks else ("", "")
        words = piece.text.split(" ")
        for place, word in enumerate(words):
            text = opening + word if place == 0 else word
            text = text + closing if place == len(words) - 1 else text
            spaced = piece.spaced if place == 0 else True
            while _columns(text) > width:  # a text without spaces breaks anywhere
                yield text[: width // 2], piece.kind, spaced
                text, spaced = text[width // 2 :], False
            yield text, piece.kind, spaced


def _painted(line: Sequence[tuple[str, Kind]], paint: Paint) -> str:
    out, last = "", EQUAL
    for text, kind in line:
        if kind != last:
            out += paint[last][1]
            # The space before a word belongs to neither.
            out += " " * (len(text) - len(text.lstrip())) + paint[kind][0] + text.lstrip()
        else:
            out += text
        last = kind
    return out + paint[last][1]


def _columns(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def to_json(copies: Copies, cluster: Cluster, differences: Sequence[Compared]) -> dict[str, Any]:
    """A cluster with all its members; those that were compared have a ``diff``."""
    pieces = {item.member.place: item.pieces for item in differences}
    ids = {member.place: member.id for member in cluster.members}
    members = [
        {
            "id": member.id,
            "url": member.url,
            "title": member.title,
            "source": member.source,
            "part": copies.documents[member.place[0]].name,
            "row": member.place[1],
            "exact_group": member.group,
            "verdict": member.verdict,
            "reason": member.reason,
            "evidence": dict(member.evidence),
            "against": ids[member.against] if member.against else None,
            "similarity": member.similarity,
            "verified": member.verified,
            "band": member.band,
            "diff": _json_pieces(pieces.get(member.place)),
        }
        for member in described(copies, cluster.members)
    ]
    return {
        "cluster": cluster.name,
        "documents": cluster.documents,
        "sources": dict(cluster.sources),
        "judged": cluster.judged,
        "stay": cluster.stay,
        "reasons": dict(cluster.reasons),
        "members": members,
    }


def _json_pieces(pieces: Sequence[Piece] | None) -> list[dict[str, Any]] | None:
    if pieces is None:
        return None
    return [{"kind": p.kind, "words": p.words, "text": p.text} for p in pieces]
