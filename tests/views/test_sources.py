"""`gristmill source`: the training documents of a text."""

import json

import pytest
from click.testing import CliRunner

from cli.main import main
from flows.steps import STEPS
from infra.runs.run_records import RunNotFoundError, save_run
from tests.views.real_run import KEPT, RealRun, pages, recipe
from views.source.sources import NoIndexError, find_sources

WORDS = 24


def quote(text: str) -> str:
    """Some words out of the middle of a text's first paragraph."""
    return " ".join(text.split()[3 : 3 + WORDS])


def kept_page(run: RealRun) -> tuple[str, str]:
    """Return URL and text of a document of the training split whose license is known."""
    rows = run.dataset("tokenize").table(["url", "split"]).to_pylist()
    trained = {row["url"] for row in rows if row["split"] == "train"}
    page = next(page for page in pages() if page.url in trained and page.source == "library")
    return page.url, page.text


def test_a_quotation_is_traced_to_its_document_and_the_steps_that_trained_on_it(
    real_run: RealRun,
) -> None:
    url, text = kept_page(real_run)
    query = f"Nobody ever wrote xyzzy before this: {quote(text)} and then qwertz follows."
    [found] = find_sources(real_run.storage, query, STEPS)
    passage = max(found.passages, key=lambda item: item.num_tokens)
    assert quote(text) in passage.text
    assert query[passage.start : passage.end] == passage.text
    assert found.longest == passage.num_tokens
    [place] = passage.places
    assert (place.url, place.source, place.license) == (url, "library", "CC0-1.0")
    runner = CliRunner()
    assert place.steps.keys() == {"tiny", "late"}
    assert place.steps["tiny"]
    for model, steps in place.steps.items():
        options = ["--storage", str(real_run.folder), "--model", model, "--url", url, "--json"]
        path = real_run.folder.parent / "recipe.yaml"
        path.write_text(json.dumps(recipe(real_run.folder, real_run.folder.parent / "sources")))
        result = runner.invoke(main, ["trace", str(path), *options])
        assert result.exit_code == 0, result.output
        [document] = json.loads(result.stdout)["documents"]
        assert set(steps) <= {item["step"] for item in document["steps"]}


def test_the_first_word_of_a_text_is_found_as_in_the_middle_of_a_document(
    real_run: RealRun,
) -> None:
    _, text = kept_page(real_run)
    [found] = find_sources(real_run.storage, quote(text), STEPS)
    assert [(passage.start, passage.end) for passage in found.passages] == [(0, len(quote(text)))]


def test_dropped_and_held_out_documents_are_no_source(real_run: RealRun) -> None:
    held_out = {
        row["url"]
        for row in real_run.dataset("tokenize").table(["url", "split"]).to_pylist()
        if row["split"] != "train"
    }
    pages_by_url = {page.url: page for page in pages()}
    for page in (pages_by_url[next(iter(held_out))], pages()[8]):
        [found] = find_sources(real_run.storage, quote(page.text), STEPS, min_tokens=30)
        assert found.passages == []


def test_the_command_prints_passages_and_says_if_there_are_none(real_run: RealRun) -> None:
    storage = ["--storage", str(real_run.folder)]
    runner = CliRunner()
    url, text = kept_page(real_run)
    result = runner.invoke(main, ["source", quote(text), *storage])
    assert result.exit_code == 0, result.output
    assert url in result.stdout
    assert "CC0-1.0" in result.stdout
    result = runner.invoke(main, ["source", "Zyx wvu tsr qpo.", *storage, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["runs"][0]["passages"] == []
    assert runner.invoke(main, ["source", "Zyx wvu tsr qpo.", *storage]).exit_code == 0


@pytest.mark.parametrize("arguments", [[], ["some text", "--file", "pyproject.toml"]])
def test_exactly_one_text_is_expected(real_run: RealRun, arguments: list[str]) -> None:
    result = CliRunner().invoke(main, ["source", *arguments, "--storage", str(real_run.folder)])
    assert result.exit_code == 1


def test_a_store_without_runs_or_index_is_an_error(run_copy: RealRun) -> None:
    with pytest.raises(RunNotFoundError):
        find_sources(run_copy.storage, "text", STEPS, recipe="other")
    save_run(run_copy.storage, run_copy.until("tokenize"))
    with pytest.raises(NoIndexError):
        find_sources(run_copy.storage, "text", STEPS)


def test_the_kept_duplicate_is_the_source(real_run: RealRun) -> None:
    [found] = find_sources(real_run.storage, quote(pages()[KEPT].text), STEPS, min_tokens=30)
    urls = {place.url for passage in found.passages for place in passage.places}
    assert urls <= {pages()[KEPT].url}
