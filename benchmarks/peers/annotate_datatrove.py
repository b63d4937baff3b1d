"""What datatrove's filters say of texts, and how long they take. Runs in datatrove's interpreter.

Reads one JSON string per line from standard input; prints one JSON object:
``{"version", "filters": {name: {"seconds", "verdicts": [reason or null]}}, "pii_seconds"}``.
Seconds are CPU time.
"""

import importlib.metadata
import json
import sys
import time
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.utils.text import split_into_parts


def main() -> None:
    """Run the four FineWeb quality filters, each over every text, and the PII formatter."""
    texts = [json.loads(line) for line in sys.stdin]
    filters: dict[str, Any] = {
        "gopher_repetition": GopherRepetitionFilter(),
        "gopher_quality": GopherQualityFilter(),
        "c4": C4QualityFilter(filter_no_terminal_punct=False),
        "fineweb": FineWebQualityFilter(),
    }
    report: dict[str, Any] = {"version": importlib.metadata.version("datatrove")}
    for item in filters.values():
        item.filter(Document(text="Warm up. " * 60, id="0"))
    verdicts: dict[str, list[str | None]] = {name: [] for name in filters}
    seconds = dict.fromkeys(filters, 0.0)
    for text in texts:
        # A document's words are kept by datatrove for the next filter: the first one pays.
        split_into_parts.cache_clear()
        for name, item in filters.items():
            start = time.process_time()
            try:
                answer = item.filter(Document(text=text, id="0"))
            except ZeroDivisionError:
                answer = (False, "ZeroDivisionError")
            seconds[name] += time.process_time() - start
            verdicts[name].append(None if answer is True else answer[1])
    report["filters"] = {
        name: {"seconds": seconds[name], "verdicts": verdicts[name]} for name in filters
    }
    formatter = PIIFormatter()
    start = time.process_time()
    for text in texts:
        formatter.format(text)
    report["pii_seconds"] = time.process_time() - start
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
