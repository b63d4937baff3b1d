"""Summaries and functions from the source code of packages."""

import ast
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from infra.download.pypi import iter_archive

MIN_BODY_WORDS, MIN_SUMMARY_WORDS, MAX_SUMMARY_WORDS = 15, 3, 25
MIN_CHARS, MAX_CHARS = 80, 1200  # of a function
# A paragraph that begins so is code, a list or markup, no prose.
_NO_PROSE = (" ", ">", "..", ":", "-", "*", "@")


def iter_summaries(archives: Iterable[Path]) -> Iterator[Mapping[str, str]]:
    """Yield the first line of docstrings (`target`) and the prose that follows it (`source`)."""
    seen = set()
    for tree, _ in _iter_modules(archives):
        for node in ast.walk(tree):
            kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
            docstring = ast.get_docstring(node) if isinstance(node, kinds) else None
            summary, _, body = (docstring or "").partition("\n\n")
            target, source = " ".join(summary.split()), _join_prose(body)
            if (
                MIN_SUMMARY_WORDS <= len(target.split()) <= MAX_SUMMARY_WORDS
                and len(source.split()) >= MIN_BODY_WORDS
                and (source, target) not in seen
            ):
                seen.add((source, target))
                yield {"source": source, "target": target}


def _join_prose(body: str) -> str:
    paragraphs = []
    for paragraph in body.split("\n\n"):
        if paragraph.startswith(_NO_PROSE) or paragraph.rstrip().endswith("::"):
            break
        paragraphs.append(" ".join(paragraph.split()))
    return " ".join(paragraphs).strip()


def iter_functions(archives: Iterable[Path]) -> Iterator[Mapping[str, str]]:
    """Yield the source code of functions of some lines (`text`)."""
    seen = set()
    for tree, source in _iter_modules(archives):
        lines = source.split("\n")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                text = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno]))
                if MIN_CHARS <= len(text) <= MAX_CHARS and text not in seen:
                    seen.add(text)
                    yield {"text": text}


def _iter_modules(archives: Iterable[Path]) -> Iterator[tuple[ast.Module, str]]:
    for archive in archives:
        for name, content in iter_archive(archive):
            if not name.endswith(".py") or "/tests/" in name:
                continue
            try:
                source = content.decode()
                yield ast.parse(source), source
            except (SyntaxError, ValueError):
                continue  # Python 2, or a test of broken code
