"""Annotation beside datatrove: speed per core as ratios, and how often the verdicts agree.

    python benchmarks/bench_annotate.py --input corpus.jsonl --peer-python /path/to/venv/bin/python

The peer's interpreter needs ``datatrove==0.10.1 spacy regex``; without one, only our own results are
printed. Inputs are JSONL files with a ``text`` column, text files, or folders of text files; without
any, the text files below this interpreter's prefix are read. Both sides see the same texts, one
after the other, on one core; CPU seconds count.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.language_id import identify
from infra.pii.spans import find_pii
from infra.schemas.quality_rules import RULES
from tasks.annotate.signals.families import compute_signals

PEER_SCRIPT = Path(__file__).parent / "peers" / "annotate_datatrove.py"
TEXT_FILES = (".txt", ".rst", ".md")
LANGUAGE_CHARACTERS = 10_000
REPEATS = 3
MAX_SHOWN = 5


def read(paths: Sequence[Path]) -> Iterator[str]:
    """The texts of files and folders, in the order of their names."""
    for path in paths:
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in files:
            if file.suffix == ".jsonl":
                for line in file.read_text(encoding="utf-8").splitlines():
                    yield json.loads(line)["text"]
            elif file.suffix in TEXT_FILES and file.is_file():
                yield file.read_text(encoding="utf-8", errors="replace")


def sample(paths: Sequence[Path], megabytes: float) -> list[str]:
    """Texts that are not empty, up to a total size."""
    chosen, size = [], 0
    for text in read(paths):
        if text.strip() and size < megabytes * 1e6:
            chosen.append(text)
            size += len(text.encode())
    return chosen


def cpu_seconds(work: Callable[[], object]) -> float:
    """The best of some runs."""
    best = float("inf")
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def run_peer(python: str, texts: Sequence[str]) -> dict[str, Any]:
    """The results of datatrove."""
    done = subprocess.run(
        [python, str(PEER_SCRIPT)],
        input="\n".join(map(json.dumps, texts)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", nargs="*", type=Path, default=[Path(sys.prefix)])
    parser.add_argument("--megabytes", type=float, default=4.0)
    parser.add_argument("--peer-python", help="an interpreter with datatrove")
    options = parser.parse_args()
    texts = sample(options.input, options.megabytes)
    size = sum(len(text.encode()) for text in texts) / 1e6
    if not texts:
        sys.exit(f"no texts below {', '.join(map(str, options.input))}")
    print(f"{len(texts)} texts, {size:.1f} MB\n")
    column = pa.array(texts, pa.large_string())
    signals = compute_signals(column)
    codes, _ = identify(texts, LANGUAGE_CHARACTERS)
    speed = {
        "quality signals, all": size / cpu_seconds(lambda: compute_signals(column)),
        "personal data": size / cpu_seconds(lambda: find_pii(column)),
        "language": size / cpu_seconds(lambda: identify(texts, LANGUAGE_CHARACTERS)),
    }
    peer = run_peer(options.peer_python, texts) if options.peer_python else None
    theirs: dict[str, float] = {}
    if peer:
        seconds = sum(item["seconds"] for item in peer["filters"].values())
        theirs = {
            "quality signals, all": size / seconds,
            "personal data": size / peer["pii_seconds"],
        }
    print(f"{'MB/s on one core':24}{'gristmill':>12}{'datatrove':>12}{'ratio':>8}")
    for name, ours in speed.items():
        other = theirs.get(name)
        shown = f"{other:12.2f}{ours / other:7.0f}x" if other else f"{'not measured':>12}"
        print(f"{name:24}{ours:12.1f}{shown}")
    if peer:
        agreement(peer, signals, codes)


def agreement(peer: dict[str, Any], signals: dict[str, Any], codes: Sequence[str]) -> None:
    """Print per filter how many documents both keep or both drop, and where they differ."""
    print(f"\nverdicts beside datatrove {peer['version']}, English texts")
    english = [row for row, code in enumerate(codes) if code == "en"]
    for name, rules in RULES.items():
        verdicts = peer["filters"][name]["verdicts"]
        differ: Counter[str] = Counter()
        ours_drop = theirs_drop = 0
        for row in english:
            fails = [
                rule.name
                for rule in rules
                if rule.applies_to("en") and not rule.passes(signals[rule.signal][row])
            ]
            ours_drop += bool(fails)
            theirs_drop += verdicts[row] is not None
            if bool(fails) != (verdicts[row] is not None):
                differ[
                    f"ours {fails[0] if fails else 'keep'}, theirs {verdicts[row] or 'keep'}"
                ] += 1
        agreement_fraction = 1 - sum(differ.values()) / max(1, len(english))
        print(
            f"{name:20} agree {agreement_fraction:7.2%} of {len(english)} "
            f"(ours drops {ours_drop}, theirs {theirs_drop})"
        )
        for what, count in differ.most_common(MAX_SHOWN):
            print(f"{'':20} {count:4} x {what}")


if __name__ == "__main__":
    main()
