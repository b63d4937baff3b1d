"""Put the whole input into the cache, once per version of what makes it."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from examples.quickstart import books, documents, site
from examples.quickstart.pins import BEAUTIFUL_SOUP, BROTLI, GFLANGUAGES, SENTENCEPIECE, SITE
from infra.store.cache_dir import cache_root

READY = "ready.json"


def quickstart_root() -> Path:
    """The folder of the input: `site/`, `books/`, `documents/`."""
    return cache_root() / "quickstart"


def fetch_quickstart() -> tuple[Path, Mapping[str, int]]:
    """Make the input if this version of it is not in the cache yet.

    Returns:
        The folder, and how many pages, books and documents it holds.

    Raises:
        DownloadError: a package cannot be obtained.
    """
    folder = quickstart_root()
    version = _version()
    try:
        ready = json.loads((folder / READY).read_text(encoding="utf-8"))
        if ready["version"] == version:
            return folder, ready["counts"]
    except (FileNotFoundError, KeyError, ValueError):
        pass

    pins = {part.pin for part in SITE} | {BEAUTIFUL_SOUP, BROTLI, GFLANGUAGES, SENTENCEPIECE}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda pin: pin.fetch(), pins))

    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".quickstart."))
    try:
        counts = {
            "pages": site.build_site(made / "site"),
            "books": books.build_books(made / "books"),
            "documents": documents.build_documents(made / "documents"),
        }
        (made / READY).write_text(json.dumps({"version": version, "counts": counts}))
        made.chmod(0o755)
        _replace(folder, made)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder, counts


def _replace(folder: Path, made: Path) -> None:
    """Replace the old folder by the new one; of two concurrent builds, the later one remains."""
    old = made.with_name(made.name + ".old")
    if folder.exists():
        folder.rename(old)
    made.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _version() -> str:
    """A digest of the code that makes the input, which names every pinned file."""
    digest = hashlib.sha256()
    for module in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(module.read_bytes())
    return digest.hexdigest()
