"""How much of the text of pages is extracted, and how much else: `python -m benchmarks.bench_extract FOLDER`.

FOLDER is a checkout of the article extraction benchmark (https://github.com/scrapinghub/article-extraction-benchmark):
181 pages, and the text of the article on each. Texts are compared by how often each run of four words occurs, as that
benchmark does: precision and recall are means over pages. One process, this stage's own code. Exits with 1 if F1 of
trafilatura, the default, is below 0.955.
"""

import argparse
import gzip
import json
import re
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

from tasks.extract.page import ExtractRequest, extract_page

ENGINES, MIN_F1, WORDS = ("trafilatura", "resiliparse"), 0.955, 4


def count_runs(text: str) -> Counter[tuple[str, ...]]:
    """Count the runs of four words of a text; a shorter text is one run."""
    words = re.findall(r"\w+", text)
    runs = (tuple(words[at : at + WORDS]) for at in range(max(1, len(words) - WORDS + 1)))
    return Counter(run for run in runs if run)


def compare(text: str, expected: str) -> tuple[float | None, float | None]:
    """Return precision and recall; ``None`` without anything to divide by."""
    got, wanted = count_runs(text), count_runs(expected)
    both = (got & wanted).total()
    return (
        both / got.total() if got else None,
        both / wanted.total() if wanted else None,
    )


def main() -> int:
    """Extract all pages with both engines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    expected = json.loads((folder / "ground-truth.json").read_text(encoding="utf-8"))
    pages = {
        name: gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes())
        for name in expected
    }
    f1s = {}
    print(f"{'engine':12} {'precision':>9} {'recall':>7} {'F1':>6} {'pages/CPU s':>12}")
    for engine in ENGINES:
        start = time.process_time()
        texts = {
            name: extract_page(ExtractRequest(page, expected[name]["url"]), engine).text
            for name, page in pages.items()
        }
        rate = len(pages) / (time.process_time() - start)
        scores = [compare(texts[name], item["articleBody"]) for name, item in expected.items()]
        precision = statistics.mean(value for value, _ in scores if value is not None)
        recall = statistics.mean(value for _, value in scores if value is not None)
        f1s[engine] = 2 * precision * recall / (precision + recall)
        print(f"{engine:12} {precision:9.3f} {recall:7.3f} {f1s[engine]:6.3f} {rate:12.0f}")
    return 0 if f1s["trafilatura"] >= MIN_F1 else 1


if __name__ == "__main__":
    sys.exit(main())
