"""Compare the data sets of two stores by their bytes: ``python scripts/compare_stores.py STORE STORE``.

Data sets are matched by stage and source, and their files by digest, so that folders, names of files
and code versions may differ. It prints one line per data set and ends with 1 if a file of a part
(ledgers included) or a file of the data set's content has no equal in the other store.
"""

import json
import sys
from collections import Counter
from pathlib import Path

# Logs hold the clock, and a crawl's archive holds the time of each fetch.
LOG_FOLDERS = ("logs/", "records/")
CLOCKED = ("warc.gz",)

Digests = dict[str, str]


def load_digests(root: Path) -> dict[tuple[str, str], list[Digests]]:
    """For each stage and source, the digests of the files of each of its data sets, by name."""
    loaded: dict[tuple[str, str], list[Digests]] = {}
    for path in sorted(root.glob("*/*/manifest.json")):
        manifest = json.loads(path.read_text())
        digests = {
            f"part {part['name']} {suffix}": file["sha256"]
            for part in manifest["parts"]
            for suffix, file in part["files"].items()
            if suffix not in CLOCKED
        }
        digests |= {
            name: file["sha256"]
            for name, file in manifest["files"].items()
            if not name.startswith(LOG_FOLDERS)
        }
        loaded.setdefault((manifest["stage"], manifest["source"] or "all"), []).append(digests)
    return loaded


def only_in(one: Digests, other: Digests) -> list[str]:
    """Names of the files of one data set whose bytes the other one has not."""
    missing = Counter(one.values()) - Counter(other.values())
    return [name for name, digest in one.items() if digest in missing]


def main(first: str, second: str) -> int:
    """Compare two local stores that hold one run each."""
    before, after = load_digests(Path(first)), load_digests(Path(second))
    differing = equal = 0
    for stage, source in sorted({*before, *after}):
        datasets = [store.get((stage, source), []) for store in (before, after)]
        if [len(made) for made in datasets] != [1, 1]:
            print(f"{stage} {source}: {len(datasets[0])} and {len(datasets[1])} data sets")
            differing += 1
            continue
        (one,), (other,) = datasets
        missing, new = only_in(one, other), only_in(other, one)
        equal += len(one) - len(missing)
        differing += bool(missing or new)
        verdict = f"differ: {missing} {new}" if missing or new else "equal"
        print(f"{stage} {source}: {len(one)} files, {verdict}")
    print(f"{equal} files are equal; {differing} data sets differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
