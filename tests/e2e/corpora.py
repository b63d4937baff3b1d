"""Small real corpora that every machine has: the docstrings of Python's standard library."""

import ast
import gzip
import json
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

GERMAN = (
    "Das ist ein längerer Text in deutscher Sprache, der nur dazu da ist, dass die Erkennung der "
    "Sprache etwas zu tun bekommt. Er erzählt von einem Müller, der am Bach wohnte und jeden "
    "Morgen das Korn der Bauern mahlte, bis das Wasser im Herbst zu steigen begann und niemand "
    "mehr über die Brücke kam. Da setzte er sich ans Fenster und wartete auf besseres Wetter."
)


@cache
def docstrings(min_characters: int = 400) -> tuple[str, ...]:
    """Return long docstrings of the standard library, in the order of their modules."""
    texts: dict[str, None] = {}
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node)
                if text and len(text) >= min_characters:
                    texts[text] = None
    return tuple(texts)


def write_jsonl(path: Path, texts: list[Any]) -> Path:
    """Write a JSONL file, gzipped if its name ends in .gz; bytes are written as they are."""
    rows = [
        item
        if isinstance(item, bytes)
        else json.dumps({"text": item, "url": f"https://example.org/{path.name}/{n}"}).encode()
        for n, item in enumerate(texts)
    ]
    data = b"\n".join(rows) + b"\n"
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def mixed(folder: Path, documents: int = 60) -> Path:
    """Write two files with English, German, exact and near duplicates, and invalid rows."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = list(docstrings()[:documents])
    near = texts[0] + "\nOne more sentence at the end makes it another document, but barely so."
    write_jsonl(folder / "a.jsonl", [*texts[: documents // 2], GERMAN, texts[1]])
    write_jsonl(
        folder / "b.jsonl.gz",
        [*texts[documents // 2 :], near, b"{broken", b'{"url": "no text"}', b'{"text": "\xff"}'],
    )
    return folder


def recipe(storage: Path | str, corpus: Path, **changes: Any) -> dict[str, Any]:
    """Return a recipe over such a corpus that ends with token shards, with one Dask worker.

    Each worker is a process that imports all stages; a test whose claim needs two, or none, says so.
    """
    return {
        "name": "small",
        "storage": str(storage),
        "seed": 7,
        "cluster": {"workers": 1},
        "sources": [
            {
                "name": "dump",
                "kind": "documents",
                "paths": [f"{corpus}/*.jsonl", f"{corpus}/*.jsonl.gz"],
                "url_column": "url",
            }
        ],
        "select": {
            "languages": {"en": 0.4},
            "quality_filters": ["gopher_repetition"],
            "pii": "mask",
        },
        "tokenize": {"vocab_size": 600, "validation_fraction": 0.1},
        **changes,
    }
