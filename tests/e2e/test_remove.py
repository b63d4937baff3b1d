"""A removal as an operator makes it: recorded, applied by the next run, shown by every command."""

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
from tests.caches import make_cache
from tests.e2e.command import CommandResult, gristmill, invoke, write_recipe
from tests.e2e.corpora import docstrings, recipe
from tests.train_entry import train_entry

pytestmark = pytest.mark.e2e

PAIRS, FILES = 8, 4
TINY = train_entry(
    precision="fp32",
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
    """Return the documents of four files; those of the first have a near-duplicate in the third."""
    plain = [text for text in docstrings() if len(text) > 700][: PAIRS + 30]
    files = [[f"{text}\n{sentence(n)}" for n, text in enumerate(plain[:PAIRS])]]
    rest = plain[PAIRS:]
    files += [rest[:10], rest[10:20] + plain[:PAIRS], rest[20:]]
    return files


def sentence(number: int) -> str:
    """Return a sentence that only one document has."""
    return f"This one is distinguished by its last sentence, which is zz{number}zz."


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("remove")


@pytest.fixture(scope="module")
def recipe_path(workspace: Path) -> Path:
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
        (workspace / f"{number}.jsonl").write_text("\n".join(lines) + "\n")
    source = {
        "name": "dump",
        "kind": "documents",
        "paths": [f"{workspace}/*.jsonl"],
        "url_column": "url",
        "license_column": "license",
    }
    value = recipe(
        workspace / "data",
        workspace,
        cluster={"workers": 0},
        sources=[source],
        select={"languages": {}, "quality_filters": [], "pii": "keep"},
        tokenize={"vocab_size": 500, "validation_fraction": 0.1, "train_bytes": 8_000},
        train=[TINY],
    )
    return write_recipe(workspace / "small.yaml", value)


def run_command(workspace: Path, home: Path, *arguments: str) -> CommandResult:
    command = gristmill if arguments[0] in ("run", "verify") else invoke
    cache = make_cache(workspace / "cache")
    result = command(home, *arguments, env={"GRISTMILL_CACHE": str(cache)})
    assert result.code == 0, result.err
    return result


def open_stage(run: CommandResult, stage: str) -> Storage:
    (path,) = [item["path"] for item in run.value["stages"] if item["stage"] == stage]
    return Storage(path)


def decode_text(tokens: Storage) -> str:
    """Decode all text of the token shards."""
    data = open_dataset(tokens)
    tokenizer = Tokenizer.from_buffer(data.read("tokenizer.json"))
    shards = [TokenShards(data, split) for split in SPLITS]
    return "\n".join(
        tokenizer.decode(one.read_document(number).tolist())
        for one in shards
        for number in range(one.num_documents)
    )


def cache_entries(workspace: Path, stage: str) -> set[str]:
    return set(Storage(str(workspace / "data")).list_files(f"unit_cache/{stage}"))


@pytest.fixture(scope="module")
def first_run(home: Path, workspace: Path, recipe_path: Path) -> CommandResult:
    return run_command(workspace, home, "run", str(recipe_path), "--json")


@pytest.fixture(scope="module")
def pair(workspace: Path, first_run: CommandResult) -> int:
    """Return the index of a pair that trains the model, but not the tokenizer."""
    pair = draw_texts([text for number in (0, 2) for text in texts()[number]])
    every = draw_texts([text for file in texts() for text in file])
    (folder,) = Storage(str(workspace / "data")).list_folders("words")
    data = open_dataset(Storage(str(workspace / "data")).subdir("words", folder))
    sampled = {row["id"]: row["bytes"] for row in data.table().to_pylist()}
    corpus = open_dataset(open_stage(first_run, "select")).table(["id", "text"]).to_pylist()
    draws = {row["content"]: row["sample_draw"] for row in every}
    last = max(
        draws[row["content"]]
        for row in draw_texts([item["text"] for item in corpus if item["id"] in sampled])
    )
    for number in range(PAIRS):
        original, duplicate = pair[number], pair[PAIRS + 10 + number]
        if (
            min(original["sample_draw"], duplicate["sample_draw"]) > last
            and original["split_draw"] > 0.1
        ):
            return number
    raise AssertionError("no pair of texts fell outside the sample")


def draw_texts(documents: list[str]) -> list[dict[str, Any]]:
    import pyarrow as pa

    digests = digest_texts(pa.array(documents))
    table = digests.append_column("id", pa.array([""] * len(documents)))
    rows: list[dict[str, Any]] = draw_documents(table, 7).to_pylist()
    return rows


def test_a_removal_from_record_to_report(
    home: Path, workspace: Path, recipe_path: Path, first_run: CommandResult, pair: int
) -> None:
    url = f"https://host0.example.org/{pair}"
    duplicate = f"https://host2.example.org/{10 + pair}"
    store = ["--storage", str(workspace / "data")]
    corpus = open_dataset(open_stage(first_run, "select"))
    assert sentence(pair) in "".join(corpus.table()["text"].to_pylist())
    assert sentence(pair) in decode_text(open_stage(first_run, "tokenize"))
    (history,) = run_command(workspace, home, "why", url, *store, "--json").value["runs"]
    (exposed,) = [event for event in history["events"] if event["verdict"] == "exposed"]
    assert exposed["details"]["times"] > 0
    before = {
        stage: cache_entries(workspace, stage) for stage in ("select", "tokenizer", "tokenize")
    }

    recorded = run_command(
        workspace,
        home,
        "remove",
        str(recipe_path),
        "--url",
        f"{url}#x",
        "--note",
        "asked",
        "--json",
    )
    assert recorded.value["recorded"] == [{"kind": "url", "value": url}]
    (reached,) = recorded.value["impact"]
    assert (reached["documents"], reached["corpus_documents"], reached["remaining_duplicates"]) == (
        1,
        1,
        1,
    )
    assert reached["remaining_duplicate_urls"] == [duplicate]
    (model,) = recorded.value["models"]
    assert (model["model"], model["documents"]) == ("tiny", 1)
    assert model["steps"] == exposed["details"]["times"]
    pending = run_command(workspace, home, "why", url, *store)
    assert "its removal is recorded, the next run applies it" in pending.out
    steps = run_command(workspace, home, "plan", str(recipe_path), "--json").value["steps"]
    assert "removals changed" in next(step["why"] for step in steps if step["stage"] == "dedup")

    again = run_command(workspace, home, "run", str(recipe_path), "--json")
    corpus = open_dataset(open_stage(again, "select"))
    assert corpus.counts.dropped["removed"] == 1
    urls = corpus.table()["url"].to_pylist()
    assert url not in urls
    assert duplicate in urls, "its duplicate is kept instead"
    assert sentence(pair) not in "".join(corpus.table()["text"].to_pylist())
    assert sentence(pair) not in decode_text(open_stage(again, "tokenize"))
    after = {stage: cache_entries(workspace, stage) - names for stage, names in before.items()}
    assert {stage: len(names) for stage, names in after.items()} == {
        "select": 2,
        "tokenizer": 0,
        "tokenize": 2,
    }, "only the parts of the document and of its duplicate are written again"

    (history,) = run_command(workspace, home, "why", url, *store, "--json").value["runs"]
    assert history["outcome"] == "dropped by select: removed, trained on by tiny"
    verdict = next(event for event in history["events"] if event["stage"] == "select")
    assert verdict["evidence"] == {"kind": "url", "value": url}
    record = next(event for event in history["events"] if event["verdict"] == "recorded")
    assert record["evidence"]["note"] == "asked"
    (exposed_now,) = [event for event in history["events"] if event["verdict"] == "exposed"]
    assert exposed_now["details"] == exposed["details"], (
        "the old model's steps are recorded permanently"
    )

    (mark,) = again.value["models_exposed"]
    assert f"{workspace / 'data'}/{mark['path']}" == open_stage(first_run, "train").url
    assert open_stage(again, "train").url != open_stage(first_run, "train").url
    assert "was trained on 1 removed document" in again.err
    page = Path(again.value["report"]).read_text()
    assert url in page
    assert mark["path"] in page
    shown = run_command(
        workspace, home, "dropped", str(recipe_path), "--reason", "removed", "--json"
    ).value["dropped"]
    assert [(document["url"], document["excerpt"]) for document in shown] == [(url, None)], (
        "its text is not quoted"
    )
    run_command(workspace, home, "verify", str(recipe_path))

    listed = run_command(workspace, home, "remove", str(recipe_path), "--list", "--json").value
    assert [entry["value"] for entry in listed["removals"]] == [url]
    assert listed["models"] == [mark]
    residual = run_command(
        workspace, home, "remove", str(recipe_path), "--list", "--locations", "--json"
    ).value["residual"]
    root = f"{workspace / 'data'}/"
    reports = [item["path"] for item in residual if item["path"].startswith("reports/")]
    assert again.value["report"].removeprefix(root) not in reports
    assert [
        (item["path"], item["documents"], item["in_latest_run"])
        for item in residual
        if item["path"] not in reports
    ] == [
        (open_stage(first_run, "acquire").url.removeprefix(root), 1, True),
        (open_stage(first_run, "select").url.removeprefix(root), 1, False),
        (open_stage(first_run, "tokenize").url.removeprefix(root), 1, False),
        (open_stage(first_run, "index").url.removeprefix(root), 1, False),
    ]


def test_a_restored_removal_restores_the_first_corpus(
    home: Path, workspace: Path, recipe_path: Path, first_run: CommandResult, pair: int
) -> None:
    url = f"https://host0.example.org/{pair}"
    run_command(workspace, home, "remove", str(recipe_path), "--url", url)
    assert (
        "removed already"
        in run_command(workspace, home, "remove", str(recipe_path), "--url", url).out
    )
    restored = run_command(
        workspace, home, "remove", str(recipe_path), "--url", url, "--restore", "--json"
    ).value
    assert (restored["removals"], restored["models"]) == ([], [])
    pending = run_command(
        workspace, home, "why", url, "--storage", str(workspace / "data"), "--json"
    ).value["runs"][0]
    assert pending["outcome"].endswith("restored since, the next run brings it back")
    last = run_command(workspace, home, "run", str(recipe_path), "--json")
    assert [stage["path"] for stage in last.value["stages"]] == [
        stage["path"] for stage in first_run.value["stages"]
    ]
    assert last.value["models_exposed"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to remove"),
        (["--url", "example.org"], "with its scheme"),
        (["--domain", "https://example.org/x"], "--domain example.org?"),
        (["--id", "12"], "32 hexadecimal digits"),
        (["--license", "mit"], "'CC0-1.0', 'MIT'"),
        (["--domain", "example.com", "--restore"], "is not removed"),
        (["--list", "--id", "0" * 32], "--list"),
    ],
)
def test_a_mistake_is_one_line_and_records_nothing(
    home: Path,
    workspace: Path,
    recipe_path: Path,
    first_run: CommandResult,
    arguments: list[str],
    message: str,
) -> None:
    before = Storage(str(workspace / "data")).list_files("removals")
    result = invoke(home, "remove", str(recipe_path), *arguments)
    assert result.code == 1
    assert message in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert Storage(str(workspace / "data")).list_files("removals") == before


def test_a_removal_without_a_match_is_recorded(
    home: Path, workspace: Path, recipe_path: Path, first_run: CommandResult, pair: int
) -> None:
    removals = ["--domain", "example.com", "--url", f"http://host0.example.org/{pair}"]
    message = run_command(workspace, home, "remove", str(recipe_path), *removals).out
    assert "domain example.com: matches nothing so far\n" in message
    assert f"did you mean https://host0.example.org/{pair}?" in message
    last = run_command(workspace, home, "run", str(recipe_path), "--json").value
    assert all(
        stage["cached"] for stage in last["stages"] if stage["stage"] in ("tokenize", "train")
    )
    run_command(workspace, home, "remove", str(recipe_path), *removals, "--restore")
