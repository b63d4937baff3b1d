"""Fetch the word pairs and analogies of `recipes/families.yaml` into the cache: `python -m examples.families`."""

import sys
from pathlib import Path

from examples.quickstart.pins import Pin
from infra.download.pypi import DownloadError, iter_archive
from infra.store.cache_dir import cache_root, write_atomic

# Only its test data are read; nothing of it is installed.
GENSIM = Pin(
    "gensim",
    "4.4.0",
    "gensim-4.4.0.tar.gz",
    "a3f5b626da5518e79a479140361c663089fe7998df8ba52d56e1ded71ac5bdf5",
    "LGPL-2.1-only",
)
GOLD_SETS = ("wordsim353.tsv", "questions-words.txt")  # of `evaluate.word_vectors`
MEMBER = "gensim/test/test_data/"


def main() -> int:
    """Run the command line; return the exit status."""
    paths = [cache_root() / "families" / name for name in GOLD_SETS]
    if not all(path.exists() for path in paths):
        try:
            files = dict(iter_archive(GENSIM.fetch()))
        except DownloadError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        for path in paths:
            _write(path, next(d for name, d in files.items() if name.endswith(MEMBER + path.name)))
    sys.stdout.writelines(f"{path}\n" for path in paths)
    return 0


def _write(path: Path, data: bytes) -> None:
    write_atomic(path, lambda out: out.write(data))


if __name__ == "__main__":
    sys.exit(main())
