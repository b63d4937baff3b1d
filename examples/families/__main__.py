"""Fetch the word pairs of `recipes/families.yaml` into the cache: `python -m examples.families`."""

import sys

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
WORDSIM = "gensim/test/test_data/wordsim353.tsv"


def main() -> int:
    """Run the command line; return the exit status."""
    path = cache_root() / "families" / "wordsim353.tsv"
    if not path.exists():
        try:
            files = iter_archive(GENSIM.fetch())
        except DownloadError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        data = next(data for name, data in files if name.endswith(WORDSIM))
        write_atomic(path, lambda out: out.write(data))
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
