"""The code version of a stage: a digest that changes when, and only when, its code can act otherwise."""

import ast
import importlib.util
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

from infra.fingerprint import digest

# Part of every data set: how its tables, its ledger and its names are made.
CORE = ("infra.dataset", "infra.fingerprint", "infra.ledger")
CORE_LIBRARIES = ("pyarrow",)
# These move bytes and start work; they do not decide what the bytes are.
CARRIERS = frozenset(
    f"infra.{name}"
    for name in (
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
        "stage",
        "storage",
    )
)


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
                code[name] = _module_digest(path)
                queue += _imported(path)
    wanted = sorted({*CORE_LIBRARIES, *libraries})
    return digest({"code": code, "libraries": {name: version(name) for name in wanted}})


@cache
def _imported(path: Path) -> tuple[str, ...]:
    """Modules of ``infra`` that a module imports and whose code can decide bytes."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [item.name for item in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "infra":
            names = [f"infra.{item.name}" for item in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        found |= {name for name in names if name.startswith("infra.") and name not in CARRIERS}
    return tuple(sorted(found))


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


@cache
def _module_digest(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return digest(ast.dump(tree))
