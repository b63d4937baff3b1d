"""The road as a user walks it: run, run again, change something, ask, break something."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from infra.dataset.dataset import open_dataset
from infra.store.storage import Storage
from tests.e2e.command import Ran, gristmill, write_recipe
from tests.e2e.corpora import GERMAN, docstrings, mixed, recipe, write_jsonl

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

STAGES = ["acquire", "annotate", "dedup", "select", "tokenize"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("road")


@pytest.fixture(scope="module")
def written(place: Path) -> Path:
    return write_recipe(place / "small.yaml", recipe(place / "data", mixed(place / "in")))


@pytest.fixture(scope="module")
def first(place: Path, written: Path) -> Ran:
    """The first run, all stages."""
    ran = gristmill(place / "home", "run", str(written), "--json")
    assert ran.code == 0, ran.err
    return ran


def cache_entries(place: Path, stage: str) -> set[str]:
    return set(Storage(str(place / "data")).list_files(f"unit_cache/{stage}"))


def test_every_document_is_accounted_for(first: Ran) -> None:
    stages = first.value["stages"]
    assert [stage["stage"] for stage in stages] == STAGES
    for stage in stages:
        out = stage["kept"] + sum(stage["dropped"].values()) + sum(stage["failed"].values())
        assert stage["in"] == out
    acquire, annotate, dedup, select, tokenize = stages
    assert acquire["in"] == 60 + 2 + 4
    assert acquire["failed"] == {"bad_json": 1, "bad_utf8": 1, "missing_text": 1}
    assert annotate["in"] == dedup["in"] == select["in"] == acquire["kept"] == 63
    assert select["dropped"]["language"] >= 1
    assert select["dropped"]["exact_duplicate"] == 1
    assert select["dropped"]["near_duplicate"] >= 1
    assert tokenize["in"] == select["kept"]
    assert acquire["source"] == "dump"
    assert select["source"] is None
    assert all(not stage["cached"] for stage in stages)


def test_the_corpus_holds_url_and_text(first: Ran) -> None:
    (select,) = [stage for stage in first.value["stages"] if stage["stage"] == "select"]
    table = open_dataset(Storage(select["path"])).table()
    assert table.num_rows == select["kept"]
    assert GERMAN not in table["text"].to_pylist()
    assert all(url.startswith("https://example.org/") for url in table["url"].to_pylist())


def test_the_report_is_one_page_on_disk(first: Ran) -> None:
    page = Path(first.value["report"]).read_text()
    assert page.lower().startswith("<!doctype html>")
    assert "small" in page


def test_a_second_run_does_nothing_and_says_so(place: Path, written: Path, first: Ran) -> None:
    again = gristmill(place / "home", "run", str(written), "--json")
    assert again.code == 0
    assert "nothing to do" in again.err
    assert all(stage["cached"] for stage in again.value["stages"])
    assert again.value["report"] == first.value["report"]


def test_a_changed_threshold_runs_again_from_select(place: Path, written: Path, first: Ran) -> None:
    changed = ["--set", "select.languages.en=0.5"]
    plan = gristmill(place / "home", "plan", str(written), *changed, "--json").value["steps"]
    assert [step["state"] for step in plan] == ["cached", "cached", "cached", "pending", "pending"]
    assert "languages" in plan[3]["why"]
    ran = gristmill(place / "home", "run", str(written), *changed, "--json")
    assert ran.code == 0, ran.err
    assert [stage["cached"] for stage in ran.value["stages"]][:4] == [True, True, True, False]


def test_a_new_file_costs_itself(place: Path, written: Path, first: Ran) -> None:
    before = {stage: cache_entries(place, stage) for stage in ("acquire", "annotate", "signatures")}
    new = write_jsonl(place / "in" / "c.jsonl", list(docstrings()[100:105]))
    try:
        ran = gristmill(place / "home", "run", str(written), "--json")
        assert ran.code == 0, ran.err
        assert ran.value["stages"][0]["in"] == 66 + 5
        for stage, names in before.items():
            assert len(cache_entries(place, stage) - names) == 1, stage
    finally:
        new.unlink()


def test_until_stops_after_a_stage(place: Path, written: Path, first: Ran) -> None:
    ran = gristmill(place / "home", "run", str(written), "--until", "annotate", "--json")
    assert ran.code == 0, ran.err
    assert [stage["stage"] for stage in ran.value["stages"]] == ["acquire", "annotate"]


def test_why_tells_a_documents_story(place: Path, first: Ran) -> None:
    store = ["--storage", str(place / "data")]
    (corpus,) = [stage["path"] for stage in first.value["stages"] if stage["stage"] == "select"]
    url = open_dataset(Storage(corpus)).table(["url"])["url"][0].as_py()
    kept = gristmill(place / "home", "why", url, *store)
    assert kept.code == 0, kept.err
    assert "tokenize" in kept.out
    german = gristmill(place / "home", "why", "https://example.org/a.jsonl/30", *store)
    assert german.code == 0
    assert "language" in german.out
    unknown = gristmill(place / "home", "why", "https://example.org/nowhere", *store)
    assert unknown.code != 0
    assert "Traceback" not in unknown.err


def test_drops_show_samples_with_evidence(place: Path, written: Path, first: Ran) -> None:
    shown = gristmill(
        place / "home",
        "dropped",
        str(written),
        "--stage",
        "select",
        "--reason",
        "language",
        "--json",
    )
    assert shown.code == 0, shown.err
    texts = json.dumps(shown.value["dropped"], ensure_ascii=False)
    assert "Müller" in texts
    wrong = gristmill(place / "home", "dropped", str(written), "--reason", "nonsense")
    assert wrong.code != 0
    assert "near_duplicate" in wrong.err


def test_clusters_show_who_stayed_and_what_differs(place: Path, written: Path, first: Ran) -> None:
    home = place / "home"
    shown = gristmill(home, "clusters", str(written))
    assert shown.code == 0, shown.err
    assert "exact_duplicate: " in shown.out
    assert "[-One more sentence" in shown.out
    found = gristmill(home, "clusters", str(written), "--random", "--limit", "1", "--json")
    (cluster,) = found.value["clusters"]
    assert [member["verdict"] for member in cluster["members"]] == ["kept", "dropped"]
    again = gristmill(home, "clusters", str(written), "--cluster", cluster["cluster"][:6], "--json")
    assert again.value["clusters"][0]["cluster"] == cluster["cluster"]
    for wrong in (["--cluster", "nothing"], ["--limit", "0"]):
        done = gristmill(home, "clusters", str(written), *wrong)
        assert done.code == 1
        assert len(done.err.splitlines()) == 1, done.err


def test_verify_finds_what_was_done_to_the_store(
    place: Path, written: Path, first: Ran, tmp_path: Path
) -> None:
    home = place / "home"
    assert gristmill(home, "run", str(written)).code == 0
    assert gristmill(home, "verify", str(written)).code == 0
    paths: dict[str, Any] = {stage["stage"]: stage["path"] for stage in first.value["stages"]}

    def broken(name: str, damage: Any) -> str:
        store = tmp_path / name
        shutil.copytree(place / "data", store)
        damage(store)
        ran = gristmill(home, "verify", str(written), "--storage", str(store))
        assert ran.code != 0, f"{name} was not found"
        return ran.out + ran.err

    def folder(store: Path, stage: str) -> Path:
        return store / Path(paths[stage]).relative_to(place / "data")

    def flip(store: Path) -> None:
        part = folder(store, "annotate") / "part-00000.parquet"
        data = bytearray(part.read_bytes())
        data[len(data) // 2] ^= 1
        part.write_bytes(data)

    def flip_inside(store: Path) -> None:
        # Runs of other recipes may have left others; that of this run is among them.
        parts = list(store.glob("tokenizer/*/part-00000.parquet"))
        assert parts
        for part in parts:
            data = bytearray(part.read_bytes())
            data[len(data) // 2] ^= 1
            part.write_bytes(data)

    def lose(store: Path) -> None:
        (folder(store, "select") / "part-00001.parquet").unlink()

    def miscount(store: Path) -> None:
        manifest = folder(store, "acquire") / "manifest.json"
        value = json.loads(manifest.read_text())
        value["counts"]["kept"] += 1
        manifest.write_text(json.dumps(value))

    assert "part-00000.parquet" in broken("flipped", flip)
    assert "tokenizer/" in broken("flipped-inside", flip_inside)
    assert "part-00001.parquet: missing" in broken("lost", lose)
    assert "documents went in" in broken("miscounted", miscount)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--set", "select.qualty=[]"], "select.qualty: unknown key"),
        (["--set", "dedup.bands=many"], "dedup.bands"),
        (["--set", "nonsense"], "section.key=value"),
        (["--set", "select.quality_filters=[gofer]"], "gofer"),
    ],
)
def test_a_mistake_in_the_recipe_is_one_line(
    place: Path, written: Path, change: list[str], said: str
) -> None:
    ran = gristmill(place / "home", "run", str(written), *change)
    assert ran.code != 0
    assert said in ran.err
    assert len(ran.err.strip().splitlines()) == 1


def test_a_missing_file_is_one_line(place: Path, tmp_path: Path) -> None:
    ran = gristmill(place / "home", "run", str(tmp_path / "nothing.yaml"))
    assert ran.code != 0
    assert ran.err.strip() == f"error: {tmp_path}/nothing.yaml: no such file"
