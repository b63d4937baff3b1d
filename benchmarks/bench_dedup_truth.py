"""Accuracy of near-duplicate removal: Gristmill compared with datatrove, text-dedup and rensa.

    python -m benchmarks.bench_dedup_truth [--scale X] [--input PATH ...] [--no-peers]

All process the same corpus of real text with planted duplicates and traps (``dedup_truth.py``), with
112 hashes in 14 bands of 8 over word 5-grams; tools that verify pairs use a threshold of 0.8. A pair
counts as detected if at least one of its documents is removed. Printed per tool: the fraction of pairs
detected, by exact Jaccard similarity; the fraction of removed documents that have a kept duplicate of
at least 0.8 (for Gristmill also: the document that the verdict names); and how many distinct books,
template pages, RFCs and manual pages without such a duplicate are kept. Similarities are those of
Gristmill's words; a peer that splits words in another way computes slightly different ones, except for
duplicates that differ in punctuation only. text-dedup is run twice, because by default it removes every
member of a cluster, the first included. Exits with 1 if Gristmill misses a target.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks import dedup_gristmill as gristmill
from benchmarks.dedup_edits import EDITS
from benchmarks.dedup_jaccard import bin_name, bin_names, find_supported, neighbors
from benchmarks.dedup_peers import NotMeasured, Peer, datatrove, rensa, run_peer, text_dedup
from benchmarks.dedup_text import TextUnavailableError, corpus, read
from benchmarks.dedup_truth import describe, generate, write

THRESHOLD = 0.8
RECALL_TARGETS = (((0.8, 0.85), 0.90), ((0.85, 2.0), 0.97))  # similarities from and below; target
PRECISION_TARGET, BOOKS_TARGET = 0.99, 0.99
ROLES = ("book", "template", "revision", "page")
WORKERS = 2

Pairs = Mapping[tuple[str, str], float]


@dataclass(frozen=True)
class Truth:
    """The ground truth of the corpus.

    Attributes:
        pairs: the exact similarity of each pair of documents, from 0.5.
        planted: the pairs of an original and its duplicate, with the kind of edit.
        roles: the purpose of each document.
    """

    pairs: Pairs
    planted: Mapping[tuple[str, str], str]
    roles: Mapping[str, str]

    @classmethod
    def load(cls, folder: Path) -> "Truth":
        """Read what `dedup_truth.write` wrote."""
        rows = pq.read_table(folder / "pairs.parquet").to_pylist()
        roles = pq.read_table(folder / "roles.parquet")
        return cls(
            {(row["a"], row["b"]): row["jaccard"] for row in rows},
            {(row["a"], row["b"]): row["kind"] for row in rows if row["kind"]},
            dict(zip(roles["id"].to_pylist(), roles["role"].to_pylist(), strict=True)),
        )


@dataclass(frozen=True)
class Fraction:
    """A fraction as numerator and denominator."""

    numerator: int
    denominator: int

    @property
    def value(self) -> float:
        """The quotient; 1 if the denominator is 0."""
        return self.numerator / self.denominator if self.denominator else 1.0

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} %" if self.denominator else "-"


def count_detected(pairs: Pairs, removed: set[str], in_range: Callable[[float], bool]) -> Fraction:
    """Count the pairs in a range of similarity of which at least one document was removed."""
    chosen = [pair for pair, similarity in pairs.items() if in_range(similarity)]
    return Fraction(sum(a in removed or b in removed for a, b in chosen), len(chosen))


def count_kept(truth: Truth, removed: set[str], role: str) -> Fraction:
    """Count the kept documents of a role, among those without a duplicate in the corpus."""
    duplicated = neighbors(truth.pairs, THRESHOLD)
    distinct = {name for name, its in truth.roles.items() if its == role and name not in duplicated}
    return Fraction(len(distinct - removed), len(distinct))


@dataclass(frozen=True)
class Score:
    """The results of one tool."""

    name: str
    removed: set[str]

    def recall(self, truth: Truth) -> list[str]:
        """Return the fraction of pairs detected, by similarity."""
        return [
            str(count_detected(truth.pairs, self.removed, partial(_in_bin, name)))
            for name in bin_names()
        ]

    def losses(self, truth: Truth) -> list[str]:
        """Return how much was removed, its precision, and what was rightly kept."""
        kept = (str(count_kept(truth, self.removed, role)) for role in ROLES)
        return [f"{len(self.removed):,}", str(self.precision(truth)), *kept]

    def precision(self, truth: Truth) -> Fraction:
        """Return the fraction of removed documents that have a kept duplicate."""
        good = find_supported(self.removed, truth.pairs, THRESHOLD)
        return Fraction(len(good), len(self.removed))


def _in_bin(name: str, similarity: float) -> bool:
    return bin_name(similarity) == name


def _between(low: float, high: float, similarity: float) -> bool:
    return low <= similarity < high


def run_gristmill(folder: Path, work: Path) -> tuple[Score, gristmill.RunResult]:
    """Run Gristmill."""
    recipe = gristmill.write_recipe(folder / "documents", work, cluster={"workers": WORKERS})
    result = gristmill.read_result(gristmill.run(recipe, "select"))
    return Score("gristmill", {_id(url) for url in result.removed}), result


def _id(url: str) -> str:
    return url.rpartition("/")[2]


def verified_removals(truth: Truth, result: gristmill.RunResult) -> Fraction:
    """Return the fraction of removed documents whose named kept document was kept and is similar."""
    n_verified = 0
    for url, removal in result.removed.items():
        a, b = sorted((_id(url), _id(removal.survivor)))
        exact = removal.reason == "exact_duplicate"
        similar = truth.pairs.get((a, b), 0.0)
        n_verified += removal.survivor in result.kept and similar >= (1 if exact else THRESHOLD)
    return Fraction(n_verified, len(result.removed))


def table(rows: Iterable[Sequence[str]]) -> str:
    """Format rows as columns of equal width."""
    lines = list(rows)
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if k else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def by_edit(truth: Truth, score: Score) -> str:
    """Format the recall of planted pairs from 0.8, by kind of edit."""
    kinds = sorted(set(truth.planted.values()))
    lines = [["planted pairs", "0.8-0.85", "from 0.85"]]
    for kind in kinds:
        pairs = {pair: truth.pairs[pair] for pair, its in truth.planted.items() if its == kind}
        fractions = [
            count_detected(pairs, score.removed, partial(_between, *span))
            for span, _ in RECALL_TARGETS
        ]
        lines.append([kind, *(f"{fraction} of {fraction.denominator}" for fraction in fractions)])
    return table(lines)


def targets(
    truth: Truth, score: Score, result: gristmill.RunResult
) -> list[tuple[str, Fraction, float]]:
    """Return the name, result and target of each criterion."""
    lines = []
    # Members of a family can be removed because of any other member; a single pair only in one way.
    single_pairs = {
        pair: truth.pairs[pair] for pair, kind in truth.planted.items() if kind in EDITS
    }
    for pairs, which in ((single_pairs, "single planted"), (truth.pairs, "all")):
        for (low, high), target in RECALL_TARGETS:
            fraction = count_detected(pairs, score.removed, partial(_between, low, high))
            until = f" to {high}" if high <= 1 else " and more"
            lines.append((f"recall of {which} pairs, Jaccard {low}{until}", fraction, target))
    lines.append(
        ("precision: a kept duplicate of 0.8 or more", score.precision(truth), PRECISION_TARGET)
    )
    lines.append(
        (
            "precision: the kept document that is named",
            verified_removals(truth, result),
            PRECISION_TARGET,
        )
    )
    lines.append(("distinct books kept", count_kept(truth, score.removed, "book"), BOOKS_TARGET))
    return lines


def peers() -> list[Peer]:
    """Return the peers to compare with."""
    return [
        datatrove(WORKERS),
        text_dedup(WORKERS),
        text_dedup(WORKERS, verify=True),
        rensa(),
    ]


def main() -> None:
    """Print the tables; exit with 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of documents")
    parser.add_argument(
        "--input", nargs="*", type=Path, default=[], help="instead of Debian's text"
    )
    parser.add_argument("--no-peers", action="store_true", help="Gristmill alone")
    options = parser.parse_args()
    try:
        texts = read(corpus(options.input))
    except TextUnavailableError as error:
        sys.exit(f"error: {error}")
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        write(generate(texts, scale=options.scale), work / "truth")
        del texts
        print(describe(work / "truth"))
        truth = Truth.load(work / "truth")
        try:
            score, result = run_gristmill(work / "truth", work)
        except gristmill.RunFailedError as error:
            sys.exit(f"error: gristmill run failed: {error}")
        scores, missing = [score], []
        for peer in [] if options.no_peers else peers():
            try:
                answer = run_peer(peer, work / "truth" / "documents")
            except NotMeasured as reason:
                missing.append(f"{peer.name}: not measured: {reason}")
                continue
            scores.append(Score(f"{peer.name}, {answer.version}", set(answer.removed)))
    head = ["pairs detected, by Jaccard", *bin_names()]
    print("\n" + table([head, *([one.name, *one.recall(truth)] for one in scores)]))
    head = [
        "documents",
        "removed",
        "with a kept duplicate",
        *(f"distinct {role}s kept" for role in ROLES),
    ]
    print("\n" + table([head, *([one.name, *one.losses(truth)] for one in scores)]))
    print("\n".join(["", *missing]))
    print(by_edit(truth, score))
    facts = {k: v for k, v in result.dedup.items() if isinstance(v, int | float)}
    print("\ndedup: " + ", ".join(f"{name} {value:,}" for name, value in facts.items()))
    missed = 0
    print()
    for name, fraction, target in targets(truth, score, result):
        met = fraction.value >= target
        missed += not met
        verdict = "met" if met else "MISSED"
        print(
            f"{name:46} {100 * fraction.value:6.2f} % of {fraction.denominator:,} (target {target:.0%}): {verdict}"
        )
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
