"""Generate a corpus with known near-duplicates: real text, planted duplicates, and traps.

    python -m benchmarks.dedup_truth FOLDER [--scale X] [--input PATH ...]

Duplicates: every edit of ``dedup_edits`` applied to excerpts of RFCs and manuals, with target Jaccard
similarities from 0.6 to 1, most of them around 0.8 and above, and families of many duplicates of one
original. Traps, which have much text in common but are not duplicates: pages of one template with
different content, distinct books with the same license text, RFCs and the RFCs they replace, reference
pages of one manual. The Jaccard similarity of every pair of documents is then computed exactly.

``FOLDER`` receives ``documents/*.parquet`` (id, url, text), ``roles.parquet`` (id, role, kind) and
``pairs.parquet`` (a, b, jaccard, kind), all pairs from 0.5; kind is null for pairs that were
not planted. The same seed and text give the same corpus.
"""

import argparse
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.dedup_edits import EDITS, FIXED, Edit, Pair, Stock
from benchmarks.dedup_jaccard import all_pairs, bin_name, bin_names, shingle_set
from benchmarks.dedup_text import TextUnavailableError, corpus, read

SEED = 20
FILES = 4
MIN_SIMILARITY = 0.5  # pairs below it are not listed
PAIRS_PER_EDIT, FAMILIES, FAMILY = 130, 20, 12
TEMPLATES, PER_TEMPLATE, BOOKS, REVISIONS, PAGES = 12, 12, 220, 60, 200
MIN_WORDS, MAX_WORDS = 60, 3000  # words of an original, log-uniform
# (fraction, low, high) of the target similarities.
TARGET_SIMILARITIES = (
    (0.25, 0.60, 0.80),
    (0.35, 0.80, 0.85),
    (0.30, 0.85, 0.95),
    (0.10, 0.95, 0.995),
)
TOLERANCE, MAX_TRIES = 0.01, 4
UNRELATED = 0.3  # upper limit of the similarity of two originals

_WORD = re.compile(r"\w+")
_PARAGRAPH = re.compile(r"\n\s*\n")
_OBSOLETES = re.compile(r"^Obsoletes:((?:[ ,]*(?:RFC)?[ ]*\d{3,4})+)", re.M | re.I)
_LICENSE = re.compile(r"^\*\*\* START: FULL LICENSE \*\*\*", re.M)


@dataclass(frozen=True)
class Document:
    """A document of the corpus: its purpose, and how it was made."""

    text: str
    role: str
    kind: str


@dataclass
class SyntheticCorpus:
    """Documents, and the pairs of an original and its duplicate: (a, b) -> kind."""

    documents: list[Document] = field(default_factory=list)
    duplicates: dict[tuple[int, int], str] = field(default_factory=dict)

    def add(self, text: str, role: str, kind: str) -> int:
        """Add a document; return its index."""
        self.documents.append(Document(text, role, kind))
        return len(self.documents) - 1


def quick_jaccard(a: str, b: str) -> float:
    """Approximate the similarity, several times faster than the exact one."""
    first, second = (
        set(zip(*(words[i:] for i in range(5)), strict=False)) for words in map(_words, (a, b))
    )
    union = len(first | second)
    return len(first & second) / union if union else 0.0


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def draw_target(rng: random.Random) -> float:
    """Draw a target similarity."""
    roll = rng.random()
    for fraction, low, high in TARGET_SIMILARITIES:
        if roll < fraction:
            return rng.uniform(low, high)
        roll -= fraction
    return TARGET_SIMILARITIES[-1][2]


def make_pair(text: str, edit: Edit, target: float, seed: int, stock: Stock) -> Pair:
    """Make a pair by an edit whose strength is adjusted until the similarity is near the target."""
    wanted = broken = (1 - target) / (1 + target)
    best: tuple[float, Pair] | None = None
    for _ in range(MAX_TRIES):
        pair = edit(text, random.Random(seed), broken, stock)
        similarity = quick_jaccard(*pair)
        off = abs(similarity - target)
        if best is None or off < best[0]:
            best = (off, pair)
        if off < TOLERANCE:
            break
        reached = (1 - similarity) / (1 + similarity)
        broken = min(0.6, max(0.001, broken * wanted / max(reached, 0.002)))
    assert best is not None
    return best[1]


def sample_paragraphs(text: str, words: int, rng: random.Random) -> str | None:
    """Sample consecutive paragraphs of about this many words; None if the text is too short."""
    parts = [part for part in _PARAGRAPH.split(text.replace("\f", "\n")) if part.strip()]
    counts = [len(_WORD.findall(part)) for part in parts]
    room = sum(counts) - words
    if room < 0:
        return None
    start = rng.randint(0, room)
    first = 0
    while first < len(parts) - 1 and counts[first] <= start:
        start -= counts[first]
        first += 1
    taken, have = first, 0
    while taken < len(parts) and have < words:
        have += counts[taken]
        taken += 1
    return "\n\n".join(parts[first:taken]) if have >= words / 2 else None


def originals(texts: Iterator[str], rng: random.Random, count: int) -> list[str]:
    """Sample excerpts of different documents that have little in common."""
    excerpts: list[str] = []
    while len(excerpts) < count:
        while len(excerpts) < count:
            text = next(texts, None)
            if text is None:
                raise TextUnavailableError(
                    f"not enough text for {count} originals; use a smaller --scale"
                )
            words = round(MIN_WORDS * (MAX_WORDS / MIN_WORDS) ** rng.random())
            piece = sample_paragraphs(text, words, rng)
            if piece is not None:
                excerpts.append(piece)
        near = {j for _, j in all_pairs([shingle_set(text) for text in excerpts], UNRELATED)}
        excerpts = [text for number, text in enumerate(excerpts) if number not in near]
    return excerpts


def generate(texts: pa.Table, seed: int = SEED, scale: float = 1.0) -> SyntheticCorpus:
    """Generate the corpus from real documents (columns url, kind, text)."""
    rng = random.Random(seed)
    made = SyntheticCorpus()
    rows = list(zip(texts["url"].to_pylist(), texts["kind"].to_pylist(), strict=True))
    every = texts["text"]
    pieces = (str(every[i]) for i, (_, kind) in enumerate(rows) if kind != "book")
    stock = Stock([word for _ in range(40) for word in _WORD.findall(next(pieces, ""))])
    _pairs(made, pieces, rng, stock, scale)
    _families(made, pieces, rng, stock, scale)
    _templates(made, pieces, rng, scale)
    books = [str(every[i]) for i, (_, kind) in enumerate(rows) if kind == "book"]
    _books(made, books, pieces, rng, scale)
    _revisions(made, texts, scale)
    _pages(made, texts, scale)
    return made


def _pairs(
    made: SyntheticCorpus, texts: Iterator[str], rng: random.Random, stock: Stock, scale: float
) -> None:
    each = max(1, round(PAIRS_PER_EDIT * scale))
    bases = originals(texts, rng, each * len(EDITS))
    for number, base in enumerate(bases):
        name, edit = list(EDITS.items())[number % len(EDITS)]
        target = 0.9 if name in FIXED else draw_target(rng)
        first, second = make_pair(base, edit, target, rng.getrandbits(32), stock)
        a, b = made.add(first, "original", name), made.add(second, "copy", name)
        made.duplicates[a, b] = name


def _families(
    made: SyntheticCorpus, texts: Iterator[str], rng: random.Random, stock: Stock, scale: float
) -> None:
    bases = originals(texts, rng, max(1, round(FAMILIES * scale)))
    for number, base in enumerate(bases):
        kind = f"family {number}"
        centre = made.add(base, "original", kind)
        for _ in range(FAMILY):
            name = rng.choice(["substitutions", "insertions", "deletions", "ocr", "mixed"])
            target = rng.uniform(0.85, 0.97)
            copy = make_pair(base, EDITS[name], target, rng.getrandbits(32), stock)[1]
            member = made.add(copy, "copy", kind)
            made.duplicates.update({(one, member): "siblings" for one in range(centre + 1, member)})
            made.duplicates[centre, member] = "family"


def _templates(
    made: SyntheticCorpus, texts: Iterator[str], rng: random.Random, scale: float
) -> None:
    for number in range(max(1, round(TEMPLATES * scale))):
        shared = [part for part in _PARAGRAPH.split(_piece(texts, rng, 900)) if part.strip()]
        similar = rng.uniform(0.45, 0.77)
        words = sum(len(_WORD.findall(part)) for part in shared)
        own = max(20, round(words * (1 - similar) / (2 * similar)))
        slots = rng.sample(range(len(shared)), min(3, len(shared)))
        for _ in range(PER_TEMPLATE):
            content = _piece(texts, rng, own).split()
            page = list(shared)
            for k, slot in enumerate(slots):
                own_words = content[
                    len(content) * k // len(slots) : len(content) * (k + 1) // len(slots)
                ]
                page[slot] = f"{page[slot]}\n\n{' '.join(own_words)}"
            made.add("\n\n".join(page), "template", f"template {number}")


def _piece(texts: Iterator[str], rng: random.Random, words: int) -> str:
    for text in texts:
        piece = sample_paragraphs(text, words, rng)
        if piece is not None:
            return piece
    raise TextUnavailableError("not enough text; use a smaller --scale")


def _books(
    made: SyntheticCorpus,
    books: Sequence[str],
    texts: Iterator[str],
    rng: random.Random,
    scale: float,
) -> None:
    """Add excerpts of books that do not overlap, each followed by the same long license."""
    licences = [text[match.start() :] for text in books if (match := _LICENSE.search(text))]
    licence = licences[0] if licences else (Path(__file__).parents[1] / "LICENSE").read_text()
    length = len(_WORD.findall(licence))
    paragraphs = (
        part for book in (*books, *texts) for part in _PARAGRAPH.split(_LICENSE.split(book)[0])
    )
    for _ in range(max(1, round(BOOKS * scale))):
        # Two books of c and d own words have a Jaccard of at most L / (L + c + d): here 0.77.
        words = length * 0.15 * (2 / 0.15) ** rng.random()
        body, have = [], 0
        while have < words:
            part = next(paragraphs, None)
            if part is None:
                return
            body.append(part.replace("\f", "\n"))
            have += len(_WORD.findall(part))
        made.add("\n\n".join([*body, licence]), "book", "licence")


def _revisions(made: SyntheticCorpus, texts: pa.Table, scale: float) -> None:
    """Add whole RFCs and those that they replace."""
    by_number = {
        int(match[1]): row
        for row, url in enumerate(texts["url"].to_pylist())
        if (match := re.search(r"/rfc(\d+)\.txt", url))
    }
    taken: set[int] = set()
    wanted = round(REVISIONS * scale)
    for number, row in sorted(by_number.items(), reverse=True):
        text = str(texts["text"][row])
        before = _OBSOLETES.search(text[:3000])
        olds = [int(old) for old in re.findall(r"\d+", before[1])] if before else []
        for old in olds:
            both = {number, old}
            if old not in by_number or both & taken or wanted <= 0:
                continue
            bodies = [text, str(texts["text"][by_number[old]])]
            if max(map(len, bodies)) < 60_000:
                taken |= both
                wanted -= 1
                for body in bodies:
                    made.add(body.replace("\f", "\n"), "revision", "RFC")


def _pages(made: SyntheticCorpus, texts: pa.Table, scale: float) -> None:
    """Add reference pages of the manual with the most pages in one folder."""
    folders: dict[str, list[int]] = {}
    for row, (url, kind) in enumerate(
        zip(texts["url"].to_pylist(), texts["kind"].to_pylist(), strict=True)
    ):
        if kind == "manual":
            folders.setdefault(url.rpartition("/")[0], []).append(row)
    rows = max(folders.values(), key=len, default=[])
    for row in rows[: round(PAGES * scale)]:
        made.add(str(texts["text"][row]), "page", "manual")


def write(made: SyntheticCorpus, folder: Path, seed: int = SEED) -> None:
    """Shuffle the documents, compute all similarities, and write the three tables."""
    order = list(range(len(made.documents)))
    random.Random(seed).shuffle(order)
    names = {number: f"d{position:05}" for position, number in enumerate(order)}
    (folder / "documents").mkdir(parents=True, exist_ok=True)
    ids = [names[number] for number in order]
    documents = [made.documents[number] for number in order]
    table = pa.table(
        {
            "id": ids,
            "url": [f"https://example.com/{name}" for name in ids],
            "text": pa.array([document.text for document in documents], pa.large_string()),
        }
    )
    for number in range(FILES):
        start, end = (len(ids) * k // FILES for k in (number, number + 1))
        pq.write_table(table.slice(start, end - start), folder / "documents" / f"{number}.parquet")
    roles = {
        "id": ids,
        "role": [document.role for document in documents],
        "kind": [document.kind for document in documents],
    }
    pq.write_table(pa.table(roles), folder / "roles.parquet")
    similar = all_pairs([shingle_set(document.text) for document in documents], MIN_SIMILARITY)
    planted = {
        (min(names[a], names[b]), max(names[a], names[b])): kind
        for (a, b), kind in made.duplicates.items()
    }
    excerpts = [
        (ids[i], ids[j], value, planted.get((ids[i], ids[j]))) for (i, j), value in similar.items()
    ]
    columns = [pa.array([row[k] for row in excerpts]) for k in range(3)]
    kinds = pa.array([row[3] for row in excerpts], pa.string())
    pairs = pa.table([*columns, kinds], names=["a", "b", "jaccard", "kind"])
    pq.write_table(pairs, folder / "pairs.parquet")


def describe(folder: Path) -> str:
    """Describe a corpus: documents by role, pairs by kind and similarity."""
    roles = Counter(pq.read_table(folder / "roles.parquet")["role"].to_pylist())
    lines = [
        "documents: " + ", ".join(f"{count:,} {role}" for role, count in sorted(roles.items()))
    ]
    pairs = pq.read_table(folder / "pairs.parquet")
    counts: Counter[tuple[str, str | None]] = Counter()
    for kind, value in zip(pairs["kind"].to_pylist(), pairs["jaccard"].to_pylist(), strict=True):
        counts[kind or "not planted", bin_name(value)] += 1
    lines.append(f"{'pairs by Jaccard':18}" + "".join(f"{name:>10}" for name in bin_names()))
    lines += [
        f"{kind:18}" + "".join(f"{counts[kind, name]:10,}" for name in bin_names())
        for kind in sorted({kind for kind, _ in counts})
    ]
    return "\n".join(lines)


def main() -> None:
    """Generate a corpus and describe it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of documents")
    parser.add_argument(
        "--input", nargs="*", type=Path, default=[], help="instead of Debian's text"
    )
    options = parser.parse_args()
    try:
        write(generate(read(corpus(options.input)), scale=options.scale), options.folder)
    except TextUnavailableError as error:
        sys.exit(f"error: {error}")
    print(describe(options.folder))


if __name__ == "__main__":
    main()
