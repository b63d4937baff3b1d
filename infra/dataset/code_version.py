"""The code version of a stage: a digest that changes when the code that decides its bytes changes.

First-party imports are followed from a stage's root modules. The layout defines which code decides
bytes: packages in ``OPERATIONAL`` move bytes, start work and show results, and never decide what the
bytes are, so they are neither digested nor followed.
"""

import ast
import importlib.util
import json
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from infra.dataset.fingerprint import bytes_sha256, json_sha256
from infra.store.cache_dir import cache_root, write_atomic

FIRST_PARTY = ("cli", "flows", "views", "serve", "tasks", "lm", "infra")
OPERATIONAL = (
    "cli",
    "flows",
    "views",
    "serve",
    "infra.store",
    "infra.compute",
    "infra.runs",
    "infra.download",
    "infra.deploy",
    "infra.registry",
    "lm.launch",
    "lm.models.registry",  # only lists the families; a stage names the one that it uses as a root
    "lm.checkpoint",
    "lm.metrics",
)
# It writes every table.
ALWAYS_INCLUDED_LIBRARIES = ("pyarrow",)

MAX_CACHED = 5_000  # source files; above it, files that no longer exist are dropped from the cache


def code_digest(modules: Sequence[str], libraries: Sequence[str]) -> str:
    """Digest of ``code_provenance``: the code version of a stage."""
    return json_sha256(code_provenance(modules, libraries))


def code_provenance(modules: Sequence[str], libraries: Sequence[str]) -> dict[str, Any]:
    """Digest the code that is reached from modules, and look up the versions of distributions.

    Comments, layout and docstrings do not count.

    Args:
        modules: dotted names of the root modules. A package stands for its ``__init__`` alone.
        libraries: names of installed distributions whose version decides the bytes.

    Returns:
        ``{"code": digest, "libraries": {distribution: version}}``.

    Raises:
        ModuleNotFoundError: if there is no module of that name.
    """
    names = sorted({*ALWAYS_INCLUDED_LIBRARIES, *libraries})
    return {
        "code": json_sha256(module_digests(modules)),
        "libraries": {name: version(name) for name in names},
    }


def module_digests(modules: Iterable[str]) -> dict[str, str]:
    """Digest each first-party module that is reached from the given ones, except operational ones."""
    digests: dict[str, str] = {}
    queue = [*modules]
    for name in queue:
        if _find_module(name) is None:  # of an imported name, that means nothing
            raise ModuleNotFoundError(f"no module {name!r} to take the code version of")
    while queue:
        name = queue.pop()
        path = None if name in digests or is_operational(name) else _find_module(name)
        if path is not None:
            digests[name], imported = _CACHE.read(path)
            queue += imported
            queue += [name.rpartition(".")[0]] if "." in name else []  # its package runs first
    _CACHE.save()
    return digests


def is_operational(module: str) -> bool:
    """Return whether a module never decides what bytes are, by its package."""
    return any(module == name or module.startswith(f"{name}.") for name in OPERATIONAL)


class _DigestCache:
    """Digests of source files, cached by their bytes: parsing all of them takes half a second.

    The steps of a run ask for them from several threads at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paths: dict[Path, str] = {}
        self._known: dict[str, tuple[str, list[str]]] | None = None
        self._is_new = False

    def read(self, path: Path) -> tuple[str, list[str]]:
        """Return a module's digest, and the first-party names it imports: modules, or names in them."""
        with self._lock:
            if self._known is None:
                self._known = self._load()
            if path not in self._paths:
                source = path.read_bytes()
                name = bytes_sha256(source)
                if name not in self._known:
                    self._known[name] = _parse(source)
                    self._is_new = True
                self._paths[path] = name
            return self._known[self._paths[path]]

    def save(self) -> None:
        """Save new digests for other processes. A folder that cannot be written to costs time only."""
        with self._lock:
            if not self._is_new or self._known is None:
                return
            self._is_new = False
            kept = self._known
            if len(kept) >= MAX_CACHED:
                kept = {name: kept[name] for name in self._paths.values()}
            data = json.dumps(kept).encode()
        with suppress(OSError):
            write_atomic(self._file(), lambda file: file.write(data))

    def _load(self) -> dict[str, tuple[str, list[str]]]:
        try:
            loaded = json.loads(self._file().read_text())
            return {name: (str(code), [*imported]) for name, (code, imported) in loaded.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def _file(self) -> Path:
        # Syntax trees differ between versions of Python; what is read from them, between versions of this file.
        name = json_sha256([sys.version, bytes_sha256(Path(__file__).read_bytes())])
        return cache_root() / f"code-{name[:16]}.json"


_CACHE = _DigestCache()


@cache
def _find_module(name: str) -> Path | None:
    """Return a module's file; ``None`` for a name defined in one (``from module import name``).

    Nothing is imported: torch alone would take seconds.
    """
    top, *names = name.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        return None
    if not names:
        return Path(spec.origin)
    stem = Path(spec.origin).parent.joinpath(*names)
    candidates = (stem / "__init__.py", stem.with_name(f"{stem.name}.py"))
    return next((path for path in candidates if path.is_file()), None)


def _parse(source: bytes) -> tuple[str, list[str]]:
    tree = ast.parse(source)
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(item.name for item in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module)
            imported.update(f"{node.module}.{item.name}" for item in node.names)
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    first_party = {name for name in imported if name.split(".")[0] in FIRST_PARTY}
    return json_sha256(ast.dump(tree)), sorted(first_party)
