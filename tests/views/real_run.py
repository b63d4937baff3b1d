"""A tiny real run of the whole pipeline, made once per test session, for tests of the views.

Two sources, two parts each: HTML pages in WARC archives and documents in JSONL files. Most are
unique English prose; some are planted so that every kind of verdict occurs.
"""

import json
import os
import random
import shutil
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from flows.steps import STEPS
from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import NullReporter
from infra.dataset.dataset import Dataset
from infra.dataset.stage import Context
from infra.formats.warc import Capture, response_record
from infra.runs.run_records import RunRecord, latest_run
from infra.store.storage import Storage
from tests.inline import go, save_record
from tests.suites.files import write_suite
from tests.train_entry import train_entry

RECIPE = "tiny-run"
SITE = "https://docs.example.org"
NASTY = 'Before {code} <script>alert("owned")</script> & after <img src=x onerror=alert(1)>.'
DOCUMENTS = 120
KEPT, NEAR = 10, (20, 25, 41)  # pages of a cluster: one is kept, the others are near duplicates
EXACT_KEPT, EXACT = 40, 13  # pages with equal texts
WORDS = {
    "en": {
        "adjective": "old quiet narrow heavy bright distant careful empty northern wooden",
        "noun": (
            "mill river farmer bridge harbor letter winter market garden engine library "
            "mountain teacher village window orchard captain lantern meadow workshop"
        ),
        "verb": "crossed repaired followed remembered painted carried measured visited found sold",
        "frame": (
            "The {a} {n} near the {m} {v} the {b} {o} that we had seen in {y}.|"
            "When the {n} of the {a} {m} {v} a {o}, it was with the {b} people of {y}.|"
            "In {y} they said that the {n} and the {o} have been {a}, but the {m} {v} them.|"
            "It was the {a} {m} in the {n} which {v} the {b} {o} after {y} and before noon."
        ),
    },
    "de": {
        "adjective": "alte stille schmale schwere helle ferne leere kleine große neue",
        "noun": "Mühle Brücke Bäuerin Straße Tür Lampe Wiese Werkstatt Stadt Geschichte",
        "verb": "überquerte reparierte suchte malte trug besuchte verkaufte beschrieb sah fand",
        "frame": (
            "Die {a} {n} neben der {m} {v} im Jahr {y} eine {b} {o}, die niemand kannte.|"
            "Als die {n} im Winter {y} die {a} {m} {v}, war auch die {b} {o} nicht mehr weit."
        ),
    },
}


@dataclass(frozen=True)
class Page:
    """A document of the run.

    Attributes:
        source: of the recipe.
        url: its URL.
        text: its text.
        reason: why it is dropped; ``None`` if it is kept.
    """

    source: str
    url: str
    text: str
    reason: str | None = None


def prose(seed: int, language: str, sentences: int) -> str:
    """Paragraphs of unique sentences of a language."""
    draw = random.Random(seed)
    words = {key: value.split() for key, value in WORDS[language].items() if key != "frame"}
    frames = WORDS[language]["frame"].split("|")
    lines = [
        draw.choice(frames).format(
            a=draw.choice(words["adjective"]),
            b=draw.choice(words["adjective"]),
            n=draw.choice(words["noun"]),
            m=draw.choice(words["noun"]),
            o=draw.choice(words["noun"]),
            v=draw.choice(words["verb"]),
            y=draw.randint(1700, 2000),
        )
        for _ in range(sentences)
    ]
    return "\n\n".join(" ".join(lines[at : at + 4]) for at in range(0, sentences, 4))


@cache
def pages() -> tuple[Page, ...]:
    """The documents: most are kept, some are short, German, nasty, or duplicates."""
    draw = random.Random(5)
    result = []
    for number in range(DOCUMENTS):
        source = "site" if number % 3 else "library"
        url = f"{SITE}/page/{number}" if source == "site" else f"https://books.example.net/{number}"
        page = Page(source, url, prose(number, "en", draw.randint(8, 24)))
        if number % 10 == 8:
            page = replace(page, text=prose(number, "de", 12), reason="language")
        elif number % 17 == 3:
            page = replace(page, text=prose(number, "en", 2), reason="gopher_quality_too_few_words")
        result.append(page)
    nasty = f"{NASTY} 😀 مرحبا 你好\n\n{result[6].text}"
    result[6] = replace(result[6], text=nasty, reason="c4_curly_brace")
    kept = result[KEPT].text
    for copies, number in enumerate(NEAR, 1):
        text = f"{kept} It was read {copies} times."
        result[number] = replace(result[number], text=text, reason="near_duplicate")
    result[EXACT_KEPT] = replace(result[EXACT_KEPT], text=result[EXACT].text)
    result[EXACT] = replace(result[EXACT], reason="exact_duplicate")
    return tuple(result)


def write_sources(folder: Path) -> None:
    """Write the WARC archives and JSONL files; some of their records are broken or hold no text."""
    folder.mkdir(parents=True)
    for index in range(2):
        own = [page for page in pages() if page.source == "site"]
        half = own[: len(own) // 2] if index == 0 else own[len(own) // 2 :]
        archive = b"".join(_capture(page.url, page.text) for page in half)
        archive += _capture(f"{SITE}/empty/{index}", "")
        archive += _capture(f"{SITE}/missing/{index}", "Not found", status=404)
        (folder / f"{index}.warc").write_bytes(archive)
        own = [page for page in pages() if page.source == "library"]
        half = own[: len(own) // 2] if index == 0 else own[len(own) // 2 :]
        rows = [
            {
                "text": page.text,
                "url": page.url,
                "title": f"Book {page.url.rsplit('/', 1)[1]}",
                "license": "CC0-1.0",
            }
            for page in half
        ]
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (folder / f"{index}.jsonl").write_text("\n".join([*lines, "{broken"]) + "\n")


def _capture(url: str, text: str, status: int = 200) -> bytes:
    paragraphs = "".join(
        f"<p>{part.replace('&', '&amp;').replace('<', '&lt;')}</p>" for part in text.split("\n\n")
    )
    title = f"Page {url.rsplit('/', 1)[1]}"
    body = f"<html><head><title>{title}</title></head><body><article>{paragraphs}</article></body>"
    headers = [("Content-Type", "text/html; charset=utf-8")]
    reason = "OK" if status == 200 else "Not Found"
    capture = Capture(url, "2026-01-31T12:00:00Z", status, reason, headers, body.encode())
    return response_record(capture)


def recipe(storage: Path, sources: Path) -> dict[str, Any]:
    """The recipe of the run: two models, the second one initialized from the first."""
    shape = {"num_layers": 1, "hidden_size": 32, "num_heads": 2, "context_length": 64}
    data = {"global_batch_size": 16, "num_processes": 1, "checkpoint_interval": 20}
    return {
        "name": RECIPE,
        "storage": str(storage),
        "seed": 7,
        "cluster": {"workers": 0},
        "sources": [
            {"name": "site", "kind": "warc", "paths": [f"{sources}/*.warc"]},
            {
                "name": "library",
                "kind": "documents",
                "paths": [f"{sources}/*.jsonl"],
                "url_column": "url",
                "title_column": "title",
                "license_column": "license",
            },
        ],
        "select": {
            "languages": {"en": 0.5},
            "quality_filters": ["gopher_quality", "c4"],
            "prefer": ["source"],
        },
        "tokenize": {"vocab_size": 400, "validation_fraction": 0.1},
        "train": [
            train_entry(precision="fp32", name="tiny", train_tokens=10_000, **shape, **data),
            train_entry(
                precision="fp32", name="late", init_from="tiny", train_tokens=3_000, **shape, **data
            ),
        ],
        "evaluate": {},
    }


@dataclass(frozen=True)
class RealRun:
    """A run in a local store.

    Attributes:
        folder: the storage root.
        record: the run's record.
    """

    folder: Path
    record: RunRecord

    @property
    def storage(self) -> Storage:
        """The root of the store."""
        return Storage(str(self.folder))

    @property
    def context(self) -> Context:
        """A context to build further data sets in the store."""
        workers = DaskCluster(ClusterConfig.model_validate({"workers": 0}))
        return Context(self.storage, 7, workers, NullReporter(), RECIPE, "test")

    def dataset(self, stage: str, name: str | None = None) -> Dataset:
        """Open the data set of a stage, and of a source or model if the stage has several."""
        return next(
            entry.open(self.storage)
            for entry in self.record.stages
            if entry.stage == stage and name in (None, entry.source, entry.entry)
        )

    def path(self, stage: str, name: str | None = None) -> Path:
        """Return the folder of a data set."""
        local = self.dataset(stage, name).storage.local_path()
        assert local is not None
        return local

    def until(self, stage: str) -> RunRecord:
        """Return the record of a run that stopped after a stage."""
        names = [step.name for step in STEPS]
        names = names[: names.index(stage) + 1]
        stages = [entry for entry in self.record.stages if entry.stage in names]
        models = self.record.models if "train" in names else ()
        return replace(self.record, stages=stages, models=models)

    def copy(self, folder: Path) -> "RealRun":
        """Copy the store, so that a test may change it."""
        shutil.copytree(self.folder, folder)
        return RealRun(folder, self.record)

    def ids(self) -> dict[str, str]:
        """Return the ids of all documents by URL."""
        result: dict[str, str] = {}
        for entry in self.record.stages:
            if entry.stage in ("acquire", "extract"):
                for part in entry.open(self.storage).parts:
                    rows = part.verdicts().select(["url", "id"]).to_pylist()
                    result |= {row["url"]: row["id"] for row in rows if row["url"]}
        return result


def make_run(folder: Path) -> None:
    """Run the whole pipeline in this process."""
    write_sources(folder / "sources")
    write_panel(folder)
    value = recipe_with_suites(folder / "store", folder)
    save_record(value, go(value, until="memorization"))


def recipe_with_suites(storage: Path, folder: Path) -> dict[str, Any]:
    """The recipe of the run as it was made from the sources and the suite below a folder."""
    probes = {"documents": 8, "prefix_tokens": [8], "continuation_tokens": 8}
    evaluate = {"suites": [str(folder / "panel.yaml")], "memorization": probes}
    return {**recipe(storage, folder / "sources"), "evaluate": evaluate}


def write_panel(folder: Path) -> None:
    """Write a suite of pages of the run and of texts that it does not know."""
    known = [page for page in pages() if page.reason is None][:12]
    rows = [
        {"id": page.url, "domain": page.source, "cluster": page.url, "text": page.text}
        for page in known
    ]
    unknown = [prose(1000 + number, "en", 8) for number in range(12)]
    rows += [{"id": f"n{n}", "domain": "new", "text": text} for n, text in enumerate(unknown)]
    write_suite(folder, "panel", rows, type="perplexity")


def shared_run(factory: pytest.TempPathFactory) -> RealRun:
    """Return the run of this test session; the first worker that asks makes it."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # common to all workers
    folder = base / "real-run"
    with FileLock(base / "real-run.lock"):
        if not (folder / "complete").exists():
            make_run(folder)
            (folder / "complete").touch()
    store = folder / "store"
    return RealRun(store, latest_run(Storage(str(store)), RECIPE))
