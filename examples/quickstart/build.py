"""Put the whole input into the cache, once per version of what makes it."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from examples.prepared import code_version, prepare_folder
from examples.quickstart import books, documents, site
from examples.quickstart.pins import BEAUTIFUL_SOUP, BROTLI, GFLANGUAGES, SENTENCEPIECE, SITE
from examples.suites.suites import SHIPPED, write_shipped
from infra.store.cache_dir import cache_root


def quickstart_root() -> Path:
    """The folder of the input: `site/`, `books/`, `documents/`, `suites/`."""
    return cache_root() / "quickstart"


def fetch_quickstart() -> tuple[Path, Mapping[str, int]]:
    """Make the input if this version of it is not in the cache yet.

    Returns:
        The folder, and how many pages, books, documents and pairs of sentences it holds.

    Raises:
        DownloadError: a package cannot be obtained.
    """
    folder = quickstart_root()
    here = Path(__file__).parent
    version = code_version(here) + code_version(here.with_name("suites"))
    return folder, prepare_folder(folder, version, _build)


def _build(folder: Path) -> Mapping[str, int]:
    pins = {part.pin for part in SITE} | {BEAUTIFUL_SOUP, BROTLI, GFLANGUAGES, SENTENCEPIECE}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda pin: pin.fetch(), pins))
    return {
        "pages": site.build_site(folder / "site"),
        "books": books.build_books(folder / "books"),
        "documents": documents.build_documents(folder / "documents"),
        "pairs": write_shipped(SHIPPED["minimal_pairs"], folder / "suites"),
    }
