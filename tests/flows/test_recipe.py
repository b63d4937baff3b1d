"""Recipes: reading, overriding, and error messages."""

import codecs
import os
import re
from pathlib import Path

import pytest
from prefect.exceptions import ParameterTypeError

from flows.pipeline import pipeline
from flows.recipe_loader import RecipeError, load_recipe
from infra.store.cache_dir import cache_root
from tests.train_entry import in_steps

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
    assert in_steps(recipe.train[0]).model.num_layers == 3
    assert recipe.train[0].to_json()["model"]["num_heads"] == 4
    assert recipe.evaluate is not None
    assert recipe.storage == "s3://bucket/prefix"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("dedup.bandz=3", "dedup.bandz: unknown key"),
        ("dedup.bands=x", "dedup.bands: "),
        ("train.huge.model.num_layers=3", "no entry huge"),
        ("train.tiny.data.mixture={web: 1}", "train.tiny.data.mixture.web: "),
        ("train.tiny.optim.adam_betas=[1.5, 0.9]", "train.tiny.optim.adam_betas.0: "),
        ("train.tiny.optim.adam_betas=[0.9]", "train.tiny.optim.adam_betas.1: "),
        ("train.tiny.optim.adam_betas=[0.9, -0.1]", "train.tiny.optim.adam_betas.1: "),
        ("train.tiny.optim.lr=.inf", "train.tiny.optim.lr: Input should be a finite number"),
        ("train.tiny.optim.loss_spike_sigma=.nan", "train.tiny.optim.loss_spike_sigma: "),
        ("train.tiny.data.mixture={dump: .inf}", "mixture.dump: Input should be a finite number"),
        ("select.languages={no: .inf}", "select.languages.no: "),
        ("train.tiny.data.mixture={dump: 0}", "train.tiny.data.mixture: "),
        ("dedup", "section.key=value"),
        ("dedup.bands=[", "not YAML"),
        ("name.first=x", "name has no fields"),
        ("sources.\u00b2.name=x", "no entry"),
        ("train.tiny.data.validation_tokens=63", "data.validation_tokens 63"),
        ("train.tiny.run.num_processes=4096", "train.tiny.run: num_processes 4096"),
        ("train.tiny.run.threads_per_process=100000", "train.tiny.run.threads_per_process: "),
        ("train.tiny.model.num_heads=3", "small.yaml: train.tiny.model.llama: hidden_size 64"),
        ("train.tiny.name=a b", "small.yaml: train.0.name: "),
        ('name="small\\n"', "small.yaml: name: "),
        ("sources.0.kind=carrier-pigeon", "sources.dump.kind: "),
        ("train.tiny.family=perceptron", "train.tiny.family: "),
        ("sources.0.paths=1", "sources.dump.documents.paths: "),
    ],
)
def test_a_mistake_is_one_line_that_names_its_field(path: str, override: str, words: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(path, [override])
    (line,) = str(error.value).splitlines()
    assert words in line


def test_seeds_of_an_entry_are_models_of_their_own(path: str) -> None:
    recipe = load_recipe(path, ["train.tiny.seeds=[3, 1]", "train.tiny.run.num_processes=1"])
    assert [entry.name for entry in recipe.train] == ["tiny"]
    assert [(model.name, in_steps(model).seed) for model in recipe.models] == [
        ("tiny-seed3", 3),
        ("tiny-seed1", 1),
    ]
    [alone] = load_recipe(path).models
    assert (alone.name, in_steps(alone).seed) == ("tiny", None)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.tiny.seeds=[3, 1, 3]"], "train.tiny.seeds: 3 is given twice"),
        (["train.tiny.seeds=[3]", "train.tiny.seed=1"], "seed and seeds are both given"),
        (["train.tiny.seeds=[-1]"], "train.tiny.seeds.0: "),
        ([f"train.tiny.name={'x' * 60}", f"train.{'x' * 60}.seeds=[3]"], "more than 64 characters"),
    ],
)
def test_a_mistake_in_seeds_is_named(path: str, overrides: list[str], words: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(words)):
        load_recipe(path, overrides)


@pytest.mark.parametrize(
    "without_validation", ["tokenize.validation_fraction=0", "train.tiny.data.validation_tokens=0"]
)
def test_early_stopping_needs_validation_data(path: str, without_validation: str) -> None:
    patience = "train.tiny.optim.early_stopping_patience=3"
    load_recipe(path, [without_validation])
    load_recipe(path, [patience, "train.tiny.data.validation_tokens=64"])
    with pytest.raises(RecipeError, match="early_stopping_patience"):
        load_recipe(path, [patience, without_validation])


def test_only_models_with_a_probability_need_held_out_documents(path: str) -> None:
    evaluated = ["tokenize.validation_fraction=0", "evaluate={}"]
    with pytest.raises(RecipeError, match="validation_fraction"):
        load_recipe(path, evaluated)
    load_recipe(path, [*evaluated, "train=[{name: vectors, family: word2vec}]"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "not YAML"),
        ("- 1", "a mapping"),
        ("name: x\nseed: 1\nseed: 2\n", "'seed' is repeated"),
        ("name: x", "sources"),
        ("name: x\nsources: [{name: a, kind: books, paths: ['${NOT_SET_AT_ALL}']}]", "NOT_SET"),
        (
            "name: x\nsources: [{name: a, kind: books, paths: [b]}, {name: a, kind: books, paths: [c]}]",
            "sources are named 'a'",
        ),
    ],
)
def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError) as error:
        load_recipe(str(file))
    assert str(error.value).startswith(str(file))
    assert words in str(error.value)


def test_validation_covers_at_least_one_row_of_a_long_context(path: str) -> None:
    assert in_steps(load_recipe(path).train[0]).effective_validation_tokens == 65_536
    (long,) = load_recipe(path, ["train.tiny.model.context_length=131072"]).train
    config = in_steps(long)
    assert config.effective_validation_tokens == 131_072
    again = type(long).model_validate(long.to_json())  # as the worker processes receive it
    assert again == long


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"name: x\nlicense: caf\xe9\n", "line 2: not text in UTF-8"),
        (b"\x93\xff\x00\x01", "line 1: not text in UTF-8"),
        (b"\xff\xfe\x00\xd8\x00", "not text in UTF-8"),
        (b"", "a mapping"),
        (b"name: {a: b}\n", "name: a text is expected"),
        (b"name: x\nselect:\n", "select: a mapping is expected"),
        (b"name: x\nsources: a.jsonl\n", "sources: a list is expected"),
        (b"1: 2\n", "Keys should be strings"),
    ],
)
def test_bytes_that_are_no_recipe_are_explained(tmp_path: Path, data: bytes, words: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_bytes(data)
    with pytest.raises(RecipeError) as error:
        load_recipe(str(file))
    assert all(line.startswith(str(file)) for line in str(error.value).splitlines())
    assert words in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_a_recipe_may_have_a_byte_order_mark(path: str, tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "marked.yaml"
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    file.write_bytes(mark + MINIMAL.encode(encoding))
    assert load_recipe(str(file)) == load_recipe(path)


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="folder"):
        load_recipe(str(tmp_path))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(RecipeError, match=r"nothing\.yaml"):
        load_recipe("nothing.yaml")


def test_a_deployed_recipe_uses_the_environment_of_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flows.pipeline import pipeline

    source = {"name": "dump", "kind": "documents", "paths": ["${CORPUS}/*.jsonl"]}
    parameter = {"name": "small", "storage": "${STORE:-./data}", "sources": [source]}
    monkeypatch.setenv("CORPUS", "/of/the/worker")
    monkeypatch.delenv("STORE", raising=False)
    recipe = pipeline.validate_parameters({"recipe": parameter})["recipe"]
    assert recipe.sources[0].paths == ("/of/the/worker/*.jsonl",)
    assert recipe.storage == "./data"
    monkeypatch.delenv("CORPUS")
    with pytest.raises(ParameterTypeError, match="CORPUS"):
        pipeline.validate_parameters({"recipe": parameter})


@pytest.mark.parametrize(
    ("select", "valid"),
    [
        (
            {
                "quality_filters": ["c4"],
                "languages": {"de": 0.5},
                "thresholds": {"c4_sentences": 3},
            },
            True,
        ),
        ({"quality_filters": ["gofer"]}, False),
        ({"languages": {"english": 0.5}}, False),
        ({"thresholds": {"c4_sentence": 3}}, False),
        ({"per_source": {"dump": {"quality_filters": ["gofer"]}}}, False),
        ({"per_source": {"dump": {"languages": {"xx": 0.5}}}}, False),
    ],
)
def test_the_schema_for_prefect_lists_all_names(select: dict[str, object], valid: bool) -> None:
    from prefect.utilities.callables import parameter_schema
    from prefect.utilities.schema_tools.validation import is_valid, validate

    from flows.pipeline import pipeline

    schema = parameter_schema(pipeline).model_dump_for_openapi()
    source = {"name": "dump", "kind": "documents", "paths": ["x"]}
    size = {"num_layers": 2, "hidden_size": 64, "num_heads": 2, "context_length": 64}
    entries = [
        {"name": "tiny", "model": size, "data": {"train_tokens": 1000}},
        {"name": "other", "model": {**size, "architecture": "gpt2"}, "data": {"train_tokens": 1}},
    ]
    recipe = {"name": "small", "sources": [source], "select": select, "train": entries}
    assert is_valid({"recipe": recipe}, schema) == valid
    assert is_valid({"recipe": recipe, "until": "select"}, schema) == valid
    assert not is_valid({"recipe": recipe, "until": "nowhere"}, schema)
    # As the server validates a deployment's own parameters.
    validate({"recipe": recipe}, schema, raise_on_error=valid, ignore_required=True)


@pytest.mark.parametrize(
    "text", ["2026-12-01", "no", "on", "12:30", "2026-12-01T10:00:00Z", "1.2.3"]
)
def test_a_word_of_yaml_1_1_is_a_text(path: str, text: str) -> None:
    recipe = load_recipe(path, [f"sources.dump.license={text}"])
    assert recipe.sources[0].license == text


@pytest.mark.parametrize("text", ["1.10", "2026", "1e3", "0x1f", "true", ".5"])
def test_a_number_in_place_of_a_text_asks_for_quotes(path: str, text: str) -> None:
    with pytest.raises(RecipeError, match=r"sources\.dump\.documents\.license: .*quotes"):
        load_recipe(path, [f"sources.dump.license={text}"])
    recipe = load_recipe(path, [f"sources.dump.license='{text}'"])
    assert recipe.sources[0].license == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e6", 1_000_000), ("1_000_000", 1_000_000), ("1.5e6", 1_500_000), ("+7", 7), ("0x10", 16)],
)
def test_numbers_are_written_as_usual(path: str, text: str, value: int) -> None:
    recipe = load_recipe(path, [f"train.tiny.data.train_tokens={text}"])
    assert in_steps(recipe.train[0]).data.train_tokens == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &a [*a]", "refers to itself"),
        ("a: &a {b: *a}", "refers to itself"),
        ("a: &a {<<: *a}", "refers to itself"),
        ("\n".join(["a0: &a0 [1, 2]", *(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]" for n in range(9))]), "aliases"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested"),
        ("a: [", "not YAML"),
        ("a: 1\n---\nb: 2", "single document"),
        ("? [a]\n: 1", "unhashable"),
        ("a: " + "9" * 5000, "digits"),
        ("a: !!python/object/apply:os.system [ls]", "not YAML"),
        ("- a", "a mapping"),
        ("", "a mapping"),
    ],
)  # fmt: skip
def test_yaml_that_cannot_be_a_recipe_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError) as raised:
        load_recipe(str(file))
    message = str(raised.value)
    assert message.startswith(str(file))
    assert words in message
    assert "\n" not in message


def test_an_alias_that_is_merged_is_a_value_like_any_other(tmp_path: Path, path: str) -> None:
    file = tmp_path / "alias.yaml"
    file.write_text(
        MINIMAL + "  - &b {name: b, model: {num_layers: 2, hidden_size: 64, num_heads: 2, "
        "context_length: 64}, data: {train_tokens: 5}}\n  - {<<: *b, name: c}\n"
    )
    assert [entry.name for entry in load_recipe(str(file)).train] == ["tiny", "b", "c"]


def test_the_quickstart_needs_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GRISTMILL")]:
        monkeypatch.delenv(name)
    recipe = load_recipe(str(Path(__file__).parents[2] / "recipes" / "quickstart.yaml"))
    assert recipe.sources[1].kind == "books"
    assert recipe.sources[1].paths[0] == f"{cache_root()}/quickstart/books/*.epub"


def test_the_chat_recipe_trains_nothing_that_the_quickstart_has_trained() -> None:
    quickstart, chat = (load_recipe(f"recipes/{name}.yaml") for name in ("quickstart", "chat"))
    assert chat.train == quickstart.train
    assert [entry.base for entry in chat.finetune] == [entry.name for entry in chat.train]
    assert chat.registered_models == tuple(entry.name for entry in chat.finetune)


@pytest.mark.parametrize("name", ["chat", "families", "finetune", "suites"])
def test_further_recipes_have_the_quickstarts_corpus(name: str) -> None:
    quickstart, other = (load_recipe(f"recipes/{item}.yaml") for item in ("quickstart", name))
    for section in (
        "storage",
        "seed",
        "sources",
        "extract",
        "annotate",
        "dedup",
        "select",
        "tokenize",
    ):
        assert getattr(quickstart, section) == getattr(other, section), section


def test_mistakes_do_not_show_what_a_variable_stands_for(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "hunter2-s3cret")
    for override in (
        "sources.dump={name: dump, kind: web, start_urls: ['ftp://u:${TOKEN}@x']}",
        "train.tiny.run={rendezvous: 'x ${TOKEN}'}",
        "cluster.workers=${TOKEN}",
        "unknown=${TOKEN}",
        "cluster={cluster_class: '${TOKEN}'}",
    ):
        with pytest.raises(RecipeError) as raised:
            load_recipe(path, [override])
        assert "hunter2" not in str(raised.value)


def test_a_recipe_is_stored_with_the_names_of_variables(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "hunter2-s3cret")
    recipe = load_recipe(path, ["train.tiny.run.mlflow_tracking_uri='http://u:${TOKEN}@h'"])
    assert in_steps(recipe.train[0]).run.mlflow_tracking_uri == "http://u:hunter2-s3cret@h"
    for stored in (
        recipe.to_record(),
        recipe.model_dump(),
        pipeline.serialize_parameters({"recipe": recipe}),
    ):
        assert "hunter2" not in str(stored)
        assert "${TOKEN}" in str(stored)
        assert "${CORPUS}" in str(stored)
    assert type(recipe).model_validate(recipe.to_record()) == recipe
