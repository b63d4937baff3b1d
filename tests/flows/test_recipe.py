"""Recipes: what is read, what is overridden, and what is said of a mistake."""

import threading
import time
from pathlib import Path

import pytest
from prefect.exceptions import ParameterTypeError

from flows.execute import ResourcePool
from flows.recipe_loader import RecipeError, load_recipe

MINIMAL = """
name: small
sources:
  - {name: dump, kind: documents, paths: ["${CORPUS}/*.jsonl", "${ELSEWHERE:-/nowhere}/x"]}
train:
  - name: tiny
    model: {num_layers: 2, hidden_size: 64, num_heads: 2, context_length: 64}
    data: {train_tokens: 1000}
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CORPUS", "/corpus")
    monkeypatch.delenv("ELSEWHERE", raising=False)
    file = tmp_path / "small.yaml"
    file.write_text(MINIMAL)
    return str(file)


def test_defaults_and_variables_are_filled_in(path: str) -> None:
    recipe = load_recipe(path)
    assert recipe.storage == "./data"
    assert recipe.sources[0].kind == "documents"
    assert recipe.sources[0].paths == ("/corpus/*.jsonl", "/nowhere/x")
    assert recipe.evaluate is None
    assert type(recipe).model_validate(recipe.model_dump(mode="json")) == recipe


def test_values_are_overridden_by_section_position_and_name(path: str) -> None:
    recipe = load_recipe(
        path,
        [
            "select.languages={no: 0.5}",
            "train.tiny.model.num_layers=3",
            "train.0.model.num_heads=4",
            "evaluate={}",
        ],
        storage="s3://bucket/prefix",
    )
    assert recipe.select.languages == {"no": 0.5}
    assert recipe.train[0].model.num_layers == 3
    assert recipe.train[0].model.num_heads == 4
    assert recipe.evaluate is not None
    assert recipe.storage == "s3://bucket/prefix"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("dedup.bandz=3", "dedup.bandz: unknown key"),
        ("dedup.bands=x", "dedup.bands: "),
        ("train.huge.model.num_layers=3", "train has no entry huge"),
        (
            "train.tiny.data.mixture={web: 1}",
            "train.tiny.data.mixture.web: no source has this name; there are dump",
        ),
        ("train.tiny.optim.adam_betas=[1.5, 0.9]", "adam_betas.0: Input should be less than 1"),
        ("train.tiny.optim.adam_betas=[0.9]", "train.tiny.optim.adam_betas.1: Field required"),
        (
            "train.tiny.optim.adam_betas=[0.9, -0.1]",
            "adam_betas.1: Input should be greater than or equal to 0",
        ),
        ("train.tiny.optim.lr=.inf", "lr: Input should be a finite number"),
        (
            "train.tiny.optim.loss_spike_sigma=.nan",
            "loss_spike_sigma: Input should be a finite number",
        ),
        ("train.tiny.data.mixture={dump: .inf}", "mixture.dump: Input should be a finite number"),
        ("select.languages={no: .inf}", "languages.no: Input should be a finite number"),
        (
            "train.tiny.data.mixture={dump: 0}",
            "train.tiny.data.mixture: the weight of 'dump' is not positive",
        ),
        ("dedup", "section.key=value is expected"),
        ("dedup.bands=[", "the value is not YAML"),
        ("name.first=x", "name has no fields"),
        (
            "train.tiny.data.validation_tokens=63",
            "data.validation_tokens 63 is less than one row",
        ),
        ("train.tiny.run.num_processes=4096", "train.tiny.run: num_processes 4096"),
        (
            "train.tiny.run.threads_per_process=100000",
            "train.tiny.run.threads_per_process: Input should be less than or equal",
        ),
        ("train.tiny.model.num_heads=3", "small.yaml: train.tiny.model: hidden_size 64 is not"),
        ("train.tiny.name=a b", "small.yaml: train.0.name: String should match"),
        ('name="small\\n"', "name: String should match"),
        ("sources.0.kind=carrier-pigeon", "sources.dump: "),
        ("sources.0.paths=1", "sources.dump.documents.paths: "),
    ],
)
def test_a_mistake_names_its_field(path: str, override: str, said: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(path, [override])
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("nothing", "said"),
    [
        (
            "tokenize.validation_fraction=0",
            "train.tiny.optim.early_stopping_patience needs held-out documents",
        ),
        ("train.tiny.data.validation_tokens=0", "early_stopping_patience needs held-out tokens"),
    ],
)
def test_patience_asks_for_something_to_judge_by(path: str, nothing: str, said: str) -> None:
    load_recipe(path, [nothing])
    load_recipe(
        path, ["train.tiny.optim.early_stopping_patience=3", "train.tiny.data.validation_tokens=64"]
    )
    with pytest.raises(RecipeError, match=said):
        load_recipe(path, ["train.tiny.optim.early_stopping_patience=3", nothing])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "not YAML"),
        ("- 1", "a mapping"),
        ("name: x\nseed: 1\nseed: 2\n", "'seed' is repeated"),
        ("name: x", "sources"),
        ("name: x\nsources: [{name: a, kind: books, paths: ['${NOT_SET_AT_ALL}']}]", "NOT_SET"),
        (
            "name: x\nsources: [{name: a, kind: books, paths: [b]}, {name: a, kind: books, paths: [c]}]",
            "two entries of sources are named 'a'",
        ),
    ],
)
def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError) as error:
        load_recipe(str(file))
    assert str(error.value).startswith(str(file))
    assert said in str(error.value)


def test_a_long_context_validates_over_one_row_at_least(path: str) -> None:
    assert load_recipe(path).train[0].effective_validation_tokens == 65_536
    (long,) = load_recipe(path, ["train.tiny.model.context_length=131072"]).train
    assert long.effective_validation_tokens == 131_072
    again = type(long).model_validate(long.to_json())  # as the processes of a run are given it
    assert again == long


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(RecipeError, match=r"^nothing\.yaml: no such file$"):
        load_recipe("nothing.yaml")


def test_slots_let_work_side_by_side_only_if_it_fits() -> None:
    slots, lock = ResourcePool(2), threading.Lock()
    busy, most = 0, 0

    def work(count: int) -> None:
        nonlocal busy, most
        with slots.reserve(count):
            with lock:
                busy += min(count, 2)
                most = max(most, busy)
            time.sleep(0.01)
            with lock:
                busy -= min(count, 2)

    threads = [threading.Thread(target=work, args=(count,)) for count in (1, 1, 2, 5, 1, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2


def test_a_deployed_recipe_means_the_workers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.pipeline import pipeline

    source = {"name": "dump", "kind": "documents", "paths": ["${CORPUS}/*.jsonl"]}
    parameter = {"name": "small", "storage": "${STORE:-./data}", "sources": [source]}
    monkeypatch.setenv("CORPUS", "/of/the/worker")
    monkeypatch.delenv("STORE", raising=False)
    recipe = pipeline.validate_parameters({"recipe": parameter})["recipe"]
    assert recipe.sources[0].paths == ("/of/the/worker/*.jsonl",)
    assert recipe.storage == "./data"
    monkeypatch.delenv("CORPUS")
    with pytest.raises(ParameterTypeError, match="environment has no CORPUS; set it, or write"):
        pipeline.validate_parameters({"recipe": parameter})


@pytest.mark.parametrize(
    ("select", "wrong"),
    [
        (
            {
                "quality_filters": ["c4"],
                "languages": {"de": 0.5},
                "thresholds": {"c4_sentences": 3},
            },
            False,
        ),
        ({"quality_filters": ["gofer"]}, True),
        ({"languages": {"english": 0.5}}, True),
        ({"thresholds": {"c4_sentence": 3}}, True),
        ({"per_source": {"dump": {"quality_filters": ["gofer"]}}}, True),
        ({"per_source": {"dump": {"languages": {"xx": 0.5}}}}, True),
    ],
)
def test_the_schema_that_prefect_is_given_knows_all_names(
    select: dict[str, object], wrong: bool
) -> None:
    from prefect.utilities.callables import parameter_schema
    from prefect.utilities.schema_tools.validation import is_valid

    from flows.pipeline import pipeline

    schema = parameter_schema(pipeline).model_dump_for_openapi()
    source = {"name": "dump", "kind": "documents", "paths": ["x"]}
    recipe = {"name": "small", "sources": [source], "select": select}
    assert is_valid({"recipe": recipe}, schema) != wrong
