"""A removal as an operator makes it: recorded, applied by the next run, told by every command."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from infra.dataset.dataset import open_dataset
from infra.formats.megatron import SPLITS, TokenShards
from infra.schemas.text_digests import digest_texts
from infra.store.storage import Storage
from tasks.tokenize.holdout_split import draw_documents
from tests.e2e.command import Ran, gristmill, write_recipe
from tests.e2e.corpora import docstrings, recipe
from tests.train_entry import train_entry

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PAIRS, FILES = 8, 4
TINY = train_entry(
    name="tiny",
    num_layers=1,
    hidden_size=32,
    num_heads=2,
    context_length=32,
    train_tokens=12_000,
    global_batch_size=16,
    num_processes=1,
)


@cache
def texts() -> list[list[str]]:
    """Documents of four files; those of the first have a near copy, one sentence shorter, later."""
    plain = [text for text in docstrings() if len(text) > 700][: PAIRS + 30]
    files = [[f"{text}\n{sentence(n)}" for n, text in enumerate(plain[:PAIRS])]]
    rest = plain[PAIRS:]
    files += [rest[:10], rest[10:20] + plain[:PAIRS], rest[20:]]
    return files


def sentence(number: int) -> str:
    """What only one document says."""
    return f"This one is told apart by its last sentence, which is zz{number}zz."


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("remove")


@pytest.fixture(scope="module")
def written(place: Path) -> Path:
    for number, documents in enumerate(texts()):
        lines = [
            json.dumps(
                {
                    "text": text,
                    "url": f"https://host{number}.example.org/{row}",
                    "license": "CC0-1.0" if row % 2 else "MIT",
                }
            )
            for row, text in enumerate(documents)
        ]
        (place / f"{number}.jsonl").write_text("\n".join(lines) + "\n")
    source = {
        "name": "dump",
        "kind": "documents",
        "paths": [f"{place}/*.jsonl"],
        "url_column": "url",
        "license_column": "license",
    }
    value = recipe(
        place / "data",
        place,
        cluster={"workers": 1},
        sources=[source],
        select={"languages": {}, "quality_filters": [], "pii": "keep"},
        tokenize={"vocab_size": 500, "validation_fraction": 0.1, "train_bytes": 8_000},
        train=[TINY],
    )
    return write_recipe(place / "small.yaml", value)


def ran(place: Path, *arguments: str) -> Ran:
    done = gristmill(place / "home", *arguments, env={"GRISTMILL_CACHE": str(place / "cache")})
    assert done.code == 0, done.err
    return done


def path_of(run: Ran, stage: str) -> Storage:
    (path,) = [item["path"] for item in run.value["stages"] if item["stage"] == stage]
    return Storage(path)


def decoded(tokens: Storage) -> str:
    """All text of the token shards."""
    data = open_dataset(tokens)
    tokenizer = Tokenizer.from_buffer(data.read("tokenizer.json"))
    shards = [TokenShards(data, split) for split in SPLITS]
    return "\n".join(
        tokenizer.decode(one.read_document(number).tolist())
        for one in shards
        for number in range(one.num_documents)
    )


def cache_entries(place: Path, stage: str) -> set[str]:
    return set(Storage(str(place / "data")).list_files(f"unit_cache/{stage}"))


@pytest.fixture(scope="module")
def first(place: Path, written: Path) -> Ran:
    return ran(place, "run", str(written), "--json")


@pytest.fixture(scope="module")
def chosen(place: Path, first: Ran) -> int:
    """A pair that trains the model, but not the tokenizer, whichever of it is in the corpus."""
    pair = survey_of([text for number in (0, 2) for text in texts()[number]])
    every = survey_of([text for file in texts() for text in file])
    (folder,) = Storage(str(place / "data")).list_folders("words")
    data = open_dataset(Storage(str(place / "data")).subdir("words", folder))
    sampled = {row["id"]: row["bytes"] for row in data.table().to_pylist()}
    corpus = open_dataset(path_of(first, "select")).table(["id", "text"]).to_pylist()
    draws = {row["content"]: row["sample_draw"] for row in every}
    last = max(
        draws[row["content"]]
        for row in survey_of([item["text"] for item in corpus if item["id"] in sampled])
    )
    for number in range(PAIRS):
        whole, copy = pair[number], pair[PAIRS + 10 + number]
        if min(whole["sample_draw"], copy["sample_draw"]) > last and whole["split_draw"] > 0.1:
            return number
    raise AssertionError("no pair of texts fell outside the sample")


def survey_of(documents: list[str]) -> list[dict[str, Any]]:
    import pyarrow as pa

    digests = digest_texts(pa.array(documents))
    table = digests.append_column("id", pa.array([""] * len(documents)))
    rows: list[dict[str, Any]] = draw_documents(table, 7).to_pylist()
    return rows


def test_the_whole_way_of_a_removal(place: Path, written: Path, first: Ran, chosen: int) -> None:
    url = f"https://host0.example.org/{chosen}"
    copy = f"https://host2.example.org/{10 + chosen}"
    store = ["--storage", str(place / "data")]
    corpus = open_dataset(path_of(first, "select"))
    assert sentence(chosen) in "".join(corpus.table()["text"].to_pylist())
    assert sentence(chosen) in decoded(path_of(first, "tokenize"))
    (told,) = ran(place, "why", url, *store, "--json").value["runs"]
    (seen,) = [event for event in told["events"] if event["verdict"] == "exposed"]
    assert seen["details"]["times"] > 0
    before = {stage: cache_entries(place, stage) for stage in ("select", "tokenizer", "tokenize")}

    recorded = ran(place, "remove", str(written), "--url", f"{url}#x", "--note", "asked", "--json")
    assert recorded.value["recorded"] == [{"kind": "url", "value": url}]
    (reached,) = recorded.value["impact"]
    assert (reached["documents"], reached["corpus_documents"], reached["remaining_duplicates"]) == (
        1,
        1,
        1,
    )
    assert reached["remaining_duplicate_urls"] == [copy]
    (model,) = recorded.value["models"]
    assert (model["model"], model["documents"]) == ("tiny", 1)
    assert model["steps"] == seen["details"]["times"]
    waits = ran(place, "why", url, *store)
    assert "its removal is recorded, the next run applies it" in waits.out
    steps = ran(place, "plan", str(written), "--json").value["steps"]
    assert "removals changed" in next(step["why"] for step in steps if step["stage"] == "dedup")

    again = ran(place, "run", str(written), "--json")
    corpus = open_dataset(path_of(again, "select"))
    assert corpus.counts.dropped["removed"] == 1
    urls = corpus.table()["url"].to_pylist()
    assert url not in urls
    assert copy in urls, "its copy is elected instead"
    assert sentence(chosen) not in "".join(corpus.table()["text"].to_pylist())
    assert sentence(chosen) not in decoded(path_of(again, "tokenize"))
    after = {stage: cache_entries(place, stage) - names for stage, names in before.items()}
    assert {stage: len(names) for stage, names in after.items()} == {
        "select": 2,
        "tokenizer": 0,
        "tokenize": 2,
    }, "only the parts of the document and of its copy are written anew"

    (told,) = ran(place, "why", url, *store, "--json").value["runs"]
    assert told["outcome"] == "dropped by select: removed, seen by tiny"
    verdict = next(event for event in told["events"] if event["stage"] == "select")
    assert verdict["evidence"] == {"kind": "url", "value": url}
    record = next(event for event in told["events"] if event["verdict"] == "recorded")
    assert record["evidence"]["note"] == "asked"
    (then,) = [event for event in told["events"] if event["verdict"] == "exposed"]
    assert then["details"] == seen["details"], "the old model's steps are known for good"

    (mark,) = again.value["models_exposed"]
    assert f"{place / 'data'}/{mark['path']}" == path_of(first, "train").url
    assert path_of(again, "train").url != path_of(first, "train").url
    assert "saw 1 removed document" in again.err
    page = Path(again.value["report"]).read_text()
    assert url in page
    assert mark["path"] in page
    shown = ran(place, "dropped", str(written), "--reason", "removed", "--json").value["dropped"]
    assert [(drop["url"], drop["excerpt"]) for drop in shown] == [(url, None)], "not quoted"
    ran(place, "verify", str(written))

    listed = ran(place, "remove", str(written), "--list", "--json").value
    assert [entry["value"] for entry in listed["removals"]] == [url]
    assert listed["models"] == [mark]
    held = ran(place, "remove", str(written), "--list", "--locations", "--json").value["residual"]
    root = f"{place / 'data'}/"
    assert [(item["path"], item["documents"], item["in_latest_run"]) for item in held] == [
        (path_of(first, "acquire").url.removeprefix(root), 1, True),
        (path_of(first, "select").url.removeprefix(root), 1, False),
        (path_of(first, "tokenize").url.removeprefix(root), 1, False),
    ]


def test_an_undone_removal_brings_the_first_corpus_back(
    place: Path, written: Path, first: Ran, chosen: int
) -> None:
    url = f"https://host0.example.org/{chosen}"
    ran(place, "remove", str(written), "--url", url)
    assert "was removed before" in ran(place, "remove", str(written), "--url", url).out
    undone = ran(place, "remove", str(written), "--url", url, "--restore", "--json").value
    assert (undone["removals"], undone["models"]) == ([], [])
    waits = ran(place, "why", url, "--storage", str(place / "data"), "--json").value["runs"][0]
    assert waits["outcome"].endswith("lifted since, the next run brings it back")
    last = ran(place, "run", str(written), "--json")
    assert [stage["path"] for stage in last.value["stages"]] == [
        stage["path"] for stage in first.value["stages"]
    ]
    assert last.value["models_exposed"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to remove"),
        (["--url", "example.org"], "with its scheme"),
        (["--domain", "https://example.org/x"], "--domain example.org?"),
        (["--id", "12"], "32 hexadecimal digits"),
        (["--license", "mit"], "there are 'CC0-1.0', 'MIT'"),
        (["--domain", "example.com", "--restore"], "is not removed"),
        (["--list", "--id", "0" * 32], "--list"),
    ],
)
def test_a_mistake_is_one_line_and_records_nothing(
    place: Path, written: Path, first: Ran, arguments: list[str], said: str
) -> None:
    before = Storage(str(place / "data")).list_files("removals")
    done = gristmill(place / "home", "remove", str(written), *arguments)
    assert done.code == 1
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert Storage(str(place / "data")).list_files("removals") == before


def test_what_matches_nothing_is_recorded_and_says_so(
    place: Path, written: Path, first: Ran, chosen: int
) -> None:
    wanted = ["--domain", "example.com", "--url", f"http://host0.example.org/{chosen}"]
    said = ran(place, "remove", str(written), *wanted).out
    assert "domain example.com: matches nothing so far\n" in said
    assert f"did you mean https://host0.example.org/{chosen}?" in said
    last = ran(place, "run", str(written), "--json").value
    assert all(
        stage["cached"] for stage in last["stages"] if stage["stage"] in ("tokenize", "train")
    )
    ran(place, "remove", str(written), *wanted, "--restore")
