"""The pipeline as a user runs it: run, run again, change something, inspect, damage something."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from infra.dataset.dataset import open_dataset
from infra.store.storage import Storage
from tests.e2e.command import CommandResult, gristmill, invoke, write_recipe
from tests.e2e.corpora import GERMAN, docstrings, mixed, recipe, write_jsonl

pytestmark = pytest.mark.e2e

STAGES = ["acquire", "annotate", "dedup", "select", "tokenize", "index"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pipeline")


@pytest.fixture(scope="module")
def recipe_path(workspace: Path) -> Path:
    return write_recipe(
        workspace / "small.yaml", recipe(workspace / "data", mixed(workspace / "in"))
    )


@pytest.fixture(scope="module")
def first_run(home: Path, workspace: Path, recipe_path: Path) -> CommandResult:
    """The result of the first run, with all stages."""
    env = {"GRISTMILL_LOG_FORMAT": "json"}
    result = gristmill(home, "run", str(recipe_path), "--json", env=env)
    assert result.code == 0, result.err
    return result


def cache_entries(workspace: Path, stage: str) -> set[str]:
    return set(Storage(str(workspace / "data")).list_files(f"unit_cache/{stage}"))


def test_every_line_of_a_run_is_json_that_names_its_step(first_run: CommandResult) -> None:
    lines = [json.loads(line) for line in first_run.err.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    finished = [line for line in lines if "kept" in line]
    assert {line["stage"] for line in finished} == set(STAGES)
    for line, stage in ((line, s) for line in finished for s in first_run.value["stages"]):
        if line["stage"] == stage["stage"]:
            assert (line["recipe"], line["run"]) == ("small", first_run.value["run"])
            assert line.get("source") == stage["source"]
            assert stage["path"].endswith(line["dataset"])
            assert line["kept"] == stage["kept"]


def test_every_document_is_accounted_for(first_run: CommandResult) -> None:
    stages = first_run.value["stages"]
    assert [stage["stage"] for stage in stages] == STAGES
    for stage in stages:
        out = stage["kept"] + sum(stage["dropped"].values()) + sum(stage["failed"].values())
        assert stage["in"] == out
    acquire, annotate, dedup, select, tokenize, index = stages
    assert acquire["in"] == 60 + 2 + 4
    assert acquire["failed"] == {"bad_json": 1, "bad_utf8": 1, "missing_text": 1}
    assert annotate["in"] == dedup["in"] == select["in"] == acquire["kept"] == 63
    assert select["dropped"]["language"] >= 1
    assert select["dropped"]["exact_duplicate"] == 1
    assert select["dropped"]["near_duplicate"] >= 1
    assert tokenize["in"] == select["kept"]
    assert 0 < index["kept"] < tokenize["kept"]  # the training split
    assert acquire["source"] == "dump"
    assert select["source"] is None
    assert all(not stage["cached"] for stage in stages)


def test_the_corpus_holds_url_and_text(first_run: CommandResult) -> None:
    (select,) = [stage for stage in first_run.value["stages"] if stage["stage"] == "select"]
    table = open_dataset(Storage(select["path"])).table()
    assert table.num_rows == select["kept"]
    assert GERMAN not in table["text"].to_pylist()
    assert all(url.startswith("https://example.org/") for url in table["url"].to_pylist())


def test_the_report_is_one_page_on_disk(first_run: CommandResult) -> None:
    page = Path(first_run.value["report"]).read_text()
    assert page.lower().startswith("<!doctype html>")
    assert "small" in page


def test_a_second_run_has_nothing_to_do(
    home: Path, workspace: Path, recipe_path: Path, first_run: CommandResult
) -> None:
    env = {"GRISTMILL_METRICS": f"file:{workspace}"}
    again = gristmill(home, "run", str(recipe_path), "--json", env=env)
    assert again.code == 0
    assert "nothing to do" in again.err
    metrics = (workspace / "gristmill_small.prom").read_text()
    assert f'gristmill_steps{{recipe="small",state="cached"}} {len(STAGES)}.0' in metrics
    assert 'gristmill_run_state{recipe="small",state="completed"} 1.0' in metrics
    assert all(stage["cached"] for stage in again.value["stages"])
    assert again.value["report"] == first_run.value["report"]


def test_a_changed_threshold_runs_again_from_select(
    home: Path, workspace: Path, recipe_path: Path, first_run: CommandResult
) -> None:
    changed = ["--set", "select.languages.en=0.5"]
    plan = invoke(home, "plan", str(recipe_path), *changed, "--json").value["steps"]
    assert [step["state"] for step in plan] == ["cached"] * 3 + ["pending"] * 3
    assert "languages" in plan[3]["why"]
    result = gristmill(home, "run", str(recipe_path), *changed, "--json")
    assert result.code == 0, result.err
    assert [stage["cached"] for stage in result.value["stages"]][:4] == [True, True, True, False]


def test_a_new_file_is_the_only_one_processed(
    home: Path, workspace: Path, recipe_path: Path, first_run: CommandResult
) -> None:
    before = {
        stage: cache_entries(workspace, stage) for stage in ("acquire", "annotate", "signatures")
    }
    new = write_jsonl(workspace / "in" / "c.jsonl", list(docstrings()[100:105]))
    try:
        result = gristmill(home, "run", str(recipe_path), "--json")
        assert result.code == 0, result.err
        assert result.value["stages"][0]["in"] == 66 + 5
        for stage, names in before.items():
            assert len(cache_entries(workspace, stage) - names) == 1, stage
    finally:
        new.unlink()


def test_until_stops_after_a_stage(
    home: Path, workspace: Path, recipe_path: Path, first_run: CommandResult
) -> None:
    result = gristmill(home, "run", str(recipe_path), "--until", "annotate", "--json")
    assert result.code == 0, result.err
    assert [stage["stage"] for stage in result.value["stages"]] == ["acquire", "annotate"]


def test_why_shows_a_documents_history(
    home: Path, workspace: Path, first_run: CommandResult
) -> None:
    store = ["--storage", str(workspace / "data")]
    (corpus,) = [stage["path"] for stage in first_run.value["stages"] if stage["stage"] == "select"]
    url = open_dataset(Storage(corpus)).table(["url"])["url"][0].as_py()
    kept = gristmill(home, "why", url, *store)
    assert kept.code == 0, kept.err
    assert "tokenize" in kept.out
    german = invoke(home, "why", "https://example.org/a.jsonl/30", *store)
    assert german.code == 0
    assert "language" in german.out
    unknown = invoke(home, "why", "https://example.org/nowhere", *store)
    assert unknown.code == 1
    assert unknown.err.startswith("error: ")


def test_dropped_shows_samples_with_evidence(
    home: Path, workspace: Path, recipe_path: Path, first_run: CommandResult
) -> None:
    result = gristmill(
        home,
        "dropped",
        str(recipe_path),
        "--stage",
        "select",
        "--reason",
        "language",
        "--json",
    )
    assert result.code == 0, result.err
    texts = json.dumps(result.value["dropped"], ensure_ascii=False)
    assert "Müller" in texts
    wrong = invoke(home, "dropped", str(recipe_path), "--reason", "nonsense")
    assert wrong.code != 0
    assert "near_duplicate" in wrong.err


def test_clusters_show_what_was_kept_and_what_differs(
    home: Path, workspace: Path, recipe_path: Path, first_run: CommandResult
) -> None:
    result = gristmill(home, "clusters", str(recipe_path))
    assert result.code == 0, result.err
    assert "exact_duplicate: " in result.out
    assert "[-One more sentence" in result.out
    sample = invoke(home, "clusters", str(recipe_path), "--random", "--limit", "1", "--json")
    (cluster,) = sample.value["clusters"]
    assert [member["verdict"] for member in cluster["members"]] == ["kept", "dropped"]
    again = invoke(
        home, "clusters", str(recipe_path), "--cluster", cluster["cluster"][:6], "--json"
    )
    assert again.value["clusters"][0]["cluster"] == cluster["cluster"]
    for wrong in (["--cluster", "nothing"], ["--limit", "0"]):
        refused = invoke(home, "clusters", str(recipe_path), *wrong)
        assert refused.code == 1
        assert len(refused.err.splitlines()) == 1, refused.err


def test_verify_finds_damage(
    home: Path, workspace: Path, recipe_path: Path, first_run: CommandResult, tmp_path: Path
) -> None:
    assert gristmill(home, "run", str(recipe_path)).code == 0
    assert gristmill(home, "verify", str(recipe_path)).code == 0
    paths: dict[str, Any] = {stage["stage"]: stage["path"] for stage in first_run.value["stages"]}

    def verify_damaged(name: str, damage: Any) -> str:
        store = tmp_path / name
        shutil.copytree(workspace / "data", store)
        damage(store)
        result = invoke(home, "verify", str(recipe_path), "--storage", str(store))
        assert result.code != 0, f"{name} was not detected"
        return result.out + result.err

    def folder(store: Path, stage: str) -> Path:
        return store / Path(paths[stage]).relative_to(workspace / "data")

    def flip(store: Path) -> None:
        part = folder(store, "annotate") / "part-00000.parquet"
        data = bytearray(part.read_bytes())
        data[len(data) // 2] ^= 1
        part.write_bytes(data)

    def flip_inside(store: Path) -> None:
        # Runs of other recipes may have made further ones; this run's is among them.
        parts = list(store.glob("tokenizer/*/part-00000.parquet"))
        assert parts
        for part in parts:
            data = bytearray(part.read_bytes())
            data[len(data) // 2] ^= 1
            part.write_bytes(data)

    def delete_part(store: Path) -> None:
        (folder(store, "select") / "part-00001.parquet").unlink()

    def miscount(store: Path) -> None:
        manifest = folder(store, "acquire") / "manifest.json"
        value = json.loads(manifest.read_text())
        value["counts"]["kept"] += 1
        manifest.write_text(json.dumps(value))

    assert "part-00000.parquet" in verify_damaged("flipped", flip)
    assert "tokenizer/" in verify_damaged("flipped-inside", flip_inside)
    assert "part-00001.parquet: missing" in verify_damaged("deleted", delete_part)
    assert "documents went in" in verify_damaged("miscounted", miscount)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--set", "select.qualty=[]"], "select.qualty: unknown key"),
        (["--set", "dedup.bands=many"], "dedup.bands"),
        (["--set", "nonsense"], "section.key=value"),
        (["--set", "select.quality_filters=[gofer]"], "gofer"),
    ],
)
def test_a_mistake_in_the_recipe_is_one_line(
    home: Path, workspace: Path, recipe_path: Path, change: list[str], message: str
) -> None:
    result = invoke(home, "run", str(recipe_path), *change)
    assert result.code != 0
    assert message in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_a_missing_file_is_one_line(home: Path, workspace: Path, tmp_path: Path) -> None:
    result = gristmill(home, "run", str(tmp_path / "nothing.yaml"))
    assert result.code != 0
    assert result.err.startswith(f"error: {tmp_path}/nothing.yaml: ")
    assert len(result.err.strip().splitlines()) == 1
