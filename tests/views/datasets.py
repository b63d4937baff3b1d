"""A whole run in miniature, built with the stage engine alone: every stage's data set and record."""

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.compute.cluster import ClusterConfig, DaskCluster
from infra.compute.progress import NullReporter
from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import document_id, json_sha256
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.formats.warc import Capture, response_record
from infra.runs.run_records import COMPLETED, ModelRecord, RunRecord, StageRecord, save_run
from infra.store.storage import Storage

SITE = "https://docs.example.org"
NASTY = 'Before <script>alert("owned")</script> & after <img src=x onerror=alert(1)>'
SENTENCES = {
    "en": (
        "The mill turns as long as there is water in the race.",
        "A sieve of fine mesh keeps back what the stones have missed.",
        "Whoever reads the ledger knows where every sack of grain has gone.",
        "It has been said that flour and bran are parted by patience alone.",
        "When the river froze, the miller told stories that nobody believed.",
        "Draw a surface with a given width, and scale it to the size of the window.",
    ),
    "de": (
        "Die Mühle dreht sich, solange Wasser im Graben ist.",
        "Wer das Hauptbuch liest, weiß, wohin jeder Sack Korn gegangen ist.",
        "Als der Fluss gefror, erzählte der Müller Geschichten.",
    ),
    "fr": (
        "Le moulin tourne tant qu'il y a de l'eau dans le bief.",
        "Celui qui lit le registre sait où chaque sac de grain est allé.",
    ),
    "ar": ("تدور الطاحونة ما دام في القناة ماء.", "من يقرأ السجل يعرف أين ذهب كل كيس."),
    "zh": ("只要水渠里有水，磨坊就会转动。", "读过账本的人都知道每一袋谷物的去向。"),
}


@dataclass
class Page:
    """A document of the miniature: where it comes from and what is wrong with it."""

    source: str
    url: str
    text: str
    language: str
    score: float
    reason: str | None = None
    evidence: Mapping[str, Any] | None = None
    cluster: str | None = None
    cluster_size: int = 1
    title: str | None = None
    id: str = ""


@dataclass
class Road:
    """The miniature's store, its data sets by label, and its record."""

    ctx: Context
    datasets: dict[str, Dataset] = field(default_factory=dict)
    record: RunRecord | None = None

    @property
    def storage(self) -> Storage:
        return self.ctx.storage


def prose(draw: random.Random, language: str, sentences: int) -> str:
    """Paragraphs of a language."""
    said = [draw.choice(SENTENCES[language]) for _ in range(sentences)]
    return "\n\n".join(" ".join(said[at : at + 4]) for at in range(0, sentences, 4))


def pages(count: int = 120) -> list[Page]:
    """Documents of two sources: most good, some short, foreign or twice."""
    draw = random.Random(5)
    found = []
    for number in range(count):
        source = "site" if number % 3 else "library"
        language = draw.choices(list(SENTENCES), (70, 12, 9, 5, 4))[0]
        text = prose(draw, language, draw.randint(6, 60))
        url = f"{SITE}/page/{number}" if source == "site" else f"book:volume-{number}"
        page = Page(source, url, text, language, round(draw.uniform(0.7, 0.99), 3))
        page.title = f"Page {number}"
        if language in ("ar", "zh"):
            page.reason, page.evidence = "language", {"language": language, "score": page.score}
        elif number % 17 == 3:
            page.text = prose(draw, language, 2)
            page.reason = "gopher_quality_too_few_words"
            words = len(page.text.split())
            page.evidence = {"value": words, "threshold": 50, "comparison": ">="}
        found.append(page)
    found[6].text = NASTY + " 😀 مرحبا 你好 " + found[6].text
    found[6].reason, found[6].evidence = "c4_curly_brace", {"value": True, "threshold": False}
    _copy(found, [10, 20, 25, 41], "near_duplicate")
    _copy(found, [13, 40], "exact_duplicate")
    for page in found:
        page.id = document_id(page.source, page.url, page.text.encode())
    _name_survivors(found)
    return found


def _copy(found: list[Page], members: list[int], reason: str) -> None:
    base = found[members[0]]
    name = hashlib.blake2b(base.text.encode(), digest_size=16).hexdigest()
    for order, member in enumerate(members):
        page = found[member]
        page.language, page.cluster, page.cluster_size = base.language, name, len(members)
        page.reason, page.evidence = (reason, {}) if order else (None, None)
        page.text = base.text
        if reason == "near_duplicate" and order:
            page.text = base.text.replace("river", "stream", order) + f" Read {order} times."


def _name_survivors(found: list[Page]) -> None:
    survivors = {page.cluster: page for page in found if page.cluster and page.reason is None}
    for page in found:
        if page.cluster and page.reason:
            near = page.reason == "near_duplicate"
            page.evidence = {
                "survivor": survivors[page.cluster].id,
                "similarity": 0.93 if near else 1.0,
            }


def emit(table: pa.Table, said: pa.Table, files: Mapping[str, bytes]) -> Iterator[PartResult]:
    """A stage whose outcome was made beforehand."""
    yield PartResult(table, said, files)


Made = tuple[pa.Table, pa.Table, Mapping[str, bytes]]


def add(
    road: Road,
    name: str,
    source: str | None,
    inputs: list[Dataset],
    parts: list[Made],
    facts: Mapping[str, Any] | None = None,
) -> Dataset:
    """Build a data set of given parts."""
    stage = Stage(name, ("infra.dataset.ledger",))
    spec = DatasetSpec(stage, source, {"made": name}, tuple(inputs))
    units = [
        WorkUnit(json_sha256([name, source, number, part[1].to_pylist()]), part)
        for number, part in enumerate(parts)
    ]
    data = build_dataset(road.ctx, spec, units, emit, stats=lambda _: dict(facts or {}))
    road.datasets[f"{name} {source or 'all'}"] = data
    return data


def ledger(stage: str, found: list[Page], *, decide: bool = False) -> pa.Table:
    """Verdicts of a stage; only one that decides gives reasons."""
    return ledger_table(
        stage,
        [page.id for page in found],
        urls=[page.url for page in found],
        reasons=[page.reason if decide else None for page in found],
        evidence=[page.evidence if decide else None for page in found],
    )


def documents(found: list[Page]) -> pa.Table:
    """The documents' columns."""
    n = len(found)
    return pa.table(
        {
            "id": pa.array([page.id for page in found], pa.string()),
            "text": pa.array([page.text for page in found], pa.large_string()),
            "url": pa.array([page.url for page in found], pa.string()),
            "date": pa.array([None] * n, pa.string()),
            "source": pa.array([page.source for page in found], pa.string()),
            "title": pa.array([page.title for page in found], pa.string()),
        }
    )


def halves(found: list[Page]) -> list[list[Page]]:
    """Two parts."""
    middle = len(found) // 2
    return [found[:middle], found[middle:]]


def acquire_site(road: Road, found: list[Page]) -> Dataset:
    """Pages in archives, with some that were not fetched and two that hold no text."""
    parts: list[Made] = []
    for number, half in enumerate(halves(found)):
        empty = [
            Page("site", f"{SITE}/empty/{number}", "<p></p>", "en", 0, id=f"e{number}" + "0" * 30)
        ]
        kept = half + empty
        archive, offsets = b"", []
        for page in kept:
            offsets.append(len(archive))
            body = f"<html><body>{page.text}</body></html>".encode()
            headers = [("Content-Type", "text/html")]
            archive += response_record(
                Capture(page.url, "2026-01-31T12:00:00Z", 200, "OK", headers, body)
            )
        lost = f"f{number}" + "1" * 30
        said = ledger_table(
            "acquire",
            [*(page.id for page in kept), lost, "9" * 31 + str(number)],
            urls=[*(page.url for page in kept), f"{SITE}/gone/{number}", f"{SITE}/robots/{number}"],
            reasons=[None] * len(kept) + ["http_status", "robots"],
            failed=[False] * len(kept) + [True, False],
            evidence=[None] * len(kept) + [{"status": 404}, {"rule": "Disallow: /robots"}],
        )
        index = pa.table(
            {
                "id": [page.id for page in kept],
                "url": [page.url for page in kept],
                "offset": pa.array(offsets, pa.int64()),
            }
        )
        parts.append((index, said, {"warc.gz": archive}))
    return add(road, "acquire", "site", [], parts)


def extract_site(road: Road, acquired: Dataset, found: list[Page]) -> Dataset:
    """Text of the pages; the empty ones are dropped."""
    parts: list[Made] = []
    for half, part in zip(halves(found), acquired.parts, strict=True):
        ids = part.table(["id", "url"])
        n = ids.num_rows
        said = ledger_table(
            "extract",
            ids["id"].to_pylist(),
            urls=ids["url"].to_pylist(),
            reasons=[None] * (n - 1) + ["no_text"],
            evidence=[None] * (n - 1) + [{"characters": 0}],
        )
        parts.append((documents(half), said, {}))
    return add(road, "extract", "site", [acquired], parts)


def annotate(road: Road, source: str, data: Dataset, found: list[Page]) -> Dataset:
    """Language and some of the quality signals."""
    parts: list[Made] = []
    for half in halves(found):
        words = [len(page.text.split()) for page in half]
        table = pa.table(
            {
                "id": [page.id for page in half],
                "language": [page.language for page in half],
                "language_score": [page.score for page in half],
                "gopher_quality_word_count": pa.array(words, pa.int64()),
                "gopher_quality_mean_word_length": [
                    len(page.text) / max(1, count) for page, count in zip(half, words, strict=True)
                ],
                "fineweb_short_line_fraction": [page.score % 0.1 * 9 for page in half],
                "pii": pa.array(
                    [[] for _ in half],
                    pa.list_(
                        pa.struct(
                            [("start", pa.int64()), ("end", pa.int64()), ("kind", pa.string())]
                        )
                    ),
                ),
                "words": pa.array(words, pa.int64()),
                "characters": pa.array([len(page.text) for page in half], pa.int64()),
                "bytes": pa.array([len(page.text.encode()) for page in half], pa.int64()),
            }
        )
        parts.append((table, ledger("annotate", half), {}))
    return add(road, "annotate", source, [data], parts)


def dedup(road: Road, inputs: list[Dataset], found: list[list[Page]]) -> Dataset:
    """Clusters beside the documents."""
    parts: list[Made] = []
    for half in found:
        table = pa.table(
            {
                "id": pa.array([page.id for page in half], pa.string()),
                "exact_group": pa.array(
                    [
                        page.cluster if page.cluster and page.cluster_size == 2 else None
                        for page in half
                    ],
                    pa.string(),
                ),
                "cluster": pa.array([page.cluster for page in half], pa.string()),
                "cluster_size": pa.array([page.cluster_size for page in half], pa.int32()),
            }
        )
        parts.append((table, ledger("dedup", half), {}))
    return add(road, "dedup", None, inputs, parts, {"candidates": 9, "verified": 5})


def select(road: Road, inputs: list[Dataset], found: list[list[Page]]) -> Dataset:
    """The corpus."""
    parts: list[Made] = []
    for half in found:
        kept = [page for page in half if page.reason is None]
        table = documents(kept)
        for name, values in {
            "language": pa.array([page.language for page in kept], pa.string()),
            "words": pa.array([len(page.text.split()) for page in kept], pa.int64()),
            "cluster": pa.array([page.cluster for page in kept], pa.string()),
            "cluster_size": pa.array([page.cluster_size for page in kept], pa.int32()),
        }.items():
            table = table.append_column(name, values)
        parts.append((table, ledger("select", half, decide=True), {}))
    return add(road, "select", None, inputs, parts)


def walk(path: Path, *, until: str = "evaluate", count: int = 120) -> Road:
    """The whole road, or its beginning."""
    cluster = DaskCluster(ClusterConfig.model_validate({"workers": 0}))
    road = Road(Context(Storage(str(path)), 1, cluster, NullReporter(), "quickstart", "run"))
    found = pages(count) if count else []
    site = [page for page in found if page.source == "site"]
    library = [page for page in found if page.source == "library"]
    books: list[Made] = [(documents(half), ledger("acquire", half), {}) for half in halves(library)]
    shelves = add(road, "acquire", "library", [], books)
    crawled = acquire_site(road, site)
    if until != "acquire":
        texts = extract_site(road, crawled, site)
        marks = [
            annotate(road, "site", texts, site),
            annotate(road, "library", shelves, library),
        ]
        ordered = [*halves(site), *halves(library)]
        clusters = dedup(road, [texts, shelves], ordered)
        corpus = select(road, [texts, shelves, *marks, clusters], ordered)
        if until != "select":
            from tests.views.token_datasets import tokenize

            tokens = tokenize(road, corpus, ordered)
            if until != "tokenize":
                from tests.views.model_datasets import models

                models(road, tokens, path)
    road.record = record(road)
    save_run(road.storage, road.record)
    return road


def record(road: Road) -> RunRecord:
    """The run's record, with made-up times."""
    seconds = {"acquire": 21.4, "extract": 6.2, "annotate": 4.1, "dedup": 3.3, "train": 118.0}
    stages = []
    for label, data in road.datasets.items():
        cached = data.stage == "extract"
        entry = label.split(" ")[1] if data.stage in ("train", "release", "evaluate") else None
        spent = 0.1 if cached else seconds.get(data.stage, 2.0)
        stages.append(
            StageRecord.from_dataset(
                data, seconds=spent, cached=cached, entry=entry, built_seconds=6.2
            )
        )
    paths = {(item.stage, item.entry): item.path for item in stages}
    names = [item.entry for item in stages if item.stage == "train" and item.entry]
    return RunRecord(
        recipe="quickstart",
        run="20260131-120000-000abcd",
        started="2026-01-31T12:00:00+00:00",
        seconds=161.7,
        state=COMPLETED,
        config={"name": "quickstart", "seed": 1337},
        versions={"gristmill": "0.1.0", "python": "3.11.2", "torch": "2.13.0"},
        stages=stages,
        models=[
            ModelRecord(
                name,
                paths.get(("train", name)),
                paths.get(("release", name)),
                paths.get(("evaluate", name)),
                {"bits_per_byte": 1.93 + 0.2 * number},
            )
            for number, name in enumerate(names)
        ],
    )
