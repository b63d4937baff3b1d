"""Folders of example data in the cache: made once per version of the code that makes them."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

READY = "ready.json"
Counts = Mapping[str, int]


def prepare_folder(folder: Path, version: str, build: Callable[[Path], Counts]) -> Counts:
    """Make a folder if this version of it does not exist yet.

    Args:
        folder: where it is to be.
        version: of what makes it (`code_version`).
        build: writes the content into an empty folder, and returns what is counted.

    Returns:
        What `build` counted, now or earlier.
    """
    try:
        ready = json.loads((folder / READY).read_text(encoding="utf-8"))
        if ready["version"] == version:
            counts: Counts = ready["counts"]
            return counts
    except (FileNotFoundError, KeyError, ValueError):
        pass
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        counts = build(made)
        (made / READY).write_text(json.dumps({"version": version, "counts": dict(counts)}))
        made.chmod(0o755)
        _replace(folder, made)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return counts


def _replace(folder: Path, made: Path) -> None:
    """Replace the old folder by the new one; of two concurrent builds, the later one remains."""
    old = made.with_name(made.name + ".old")
    if folder.exists():
        folder.rename(old)
    made.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def code_version(package: Path) -> str:
    """A digest of the code of a package, which names every pinned file."""
    digest = hashlib.sha256()
    for module in sorted(package.glob("*.py")):
        digest.update(module.read_bytes())
    return digest.hexdigest()
