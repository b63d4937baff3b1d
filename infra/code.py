"""The code version of a stage: a digest that changes when, and only when, its code can act otherwise."""

import ast
import importlib.util
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

from infra.cache import cache_root, put
from infra.fingerprint import digest, digest_bytes

# Part of every data set: how its tables, its ledger and its names are made.
CORE = ("infra.dataset", "infra.fingerprint", "infra.ledger")
CORE_LIBRARIES = ("pyarrow",)
# These move bytes and start work; they do not decide what the bytes are.
CARRIERS = frozenset(
    f"infra.{name}"
    for name in (
        "cache",
        "cluster",
        "code",
        "config",
        "dag",
        "errors",
        "exchange",
        "jit",
        "models",
        "packages",
        "processes",
        "progress",
        "receipts",
        "stage",
        "storage",
    )
)

MANY = 5_000  # files that are remembered, before those are forgotten that are not there any more
_version = cache(version)  # it reads a file each time


def code_digest(modules: Sequence[str], libraries: Sequence[str]) -> str:
    """Digest of modules' code and of distributions' versions.

    Comments, layout and docstrings do not count. A package stands for all modules below it. What
    the modules import from ``infra`` counts as well, but for what only carries bytes about.

    Args:
        modules: dotted names of importable modules or packages.
        libraries: names of installed distributions whose version decides the bytes.
    """
    code: dict[str, str] = {}
    queue = [*CORE, *modules]
    while queue:
        for name, path in _files(queue.pop()):
            if name not in code:
                code[name], imported = _SOURCES.read(path)
                queue += imported
    _SOURCES.save()
    wanted = sorted({*CORE_LIBRARIES, *libraries})
    return digest({"code": code, "libraries": {name: _version(name) for name in wanted}})


class _Sources:
    """What was read from source files, remembered by their bytes: reading them takes half a second."""

    def __init__(self) -> None:
        self._paths: dict[Path, str] = {}
        self._known: dict[str, tuple[str, list[str]]] | None = None
        self._new = False

    def read(self, path: Path) -> tuple[str, list[str]]:
        """A module's digest, and the modules of ``infra`` it imports whose code can decide bytes."""
        if self._known is None:
            self._known = self._load()
        if path not in self._paths:
            source = path.read_bytes()
            name = self._paths[path] = digest_bytes(source)
            if name not in self._known:
                self._known[name] = _read(source)
                self._new = True
        return self._known[self._paths[path]]

    def save(self) -> None:
        """Keep what is new for other processes; a place that cannot be written costs time only."""
        if not self._new or self._known is None:
            return
        self._new = False
        with suppress(OSError):
            kept = self._known
            if len(kept) >= MANY:
                kept = {name: kept[name] for name in self._paths.values()}
            put(self._place(), lambda file: file.write(json.dumps(kept).encode()))

    def _load(self) -> dict[str, tuple[str, list[str]]]:
        try:
            found = json.loads(self._place().read_text())
            return {name: (str(code), [*imported]) for name, (code, imported) in found.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def _place(self) -> Path:
        # Syntax trees differ between versions of Python, and what is read from them between ours.
        name = digest([sys.version, digest_bytes(Path(__file__).read_bytes())])
        return cache_root() / f"code-{name[:16]}.json"


_SOURCES = _Sources()


def _files(module: str) -> list[tuple[str, Path]]:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module {module!r} to take the code version of")
    origin = Path(spec.origin)
    if spec.submodule_search_locations is None:
        return [(module, origin)]
    base = origin.parent
    return [
        (".".join((module, *path.relative_to(base).with_suffix("").parts)), path)
        for path in sorted(base.rglob("*.py"))
    ]


def _read(source: bytes) -> tuple[str, list[str]]:
    tree = ast.parse(source)
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(item.name for item in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "infra":
            found.update(f"infra.{item.name}" for item in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    imported = {name for name in found if name.startswith("infra.") and name not in CARRIERS}
    return digest(ast.dump(tree)), sorted(imported)
