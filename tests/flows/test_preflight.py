"""What this machine cannot do is reported before any work is done."""

import json
import os
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner

from cli.main import main
from flows.planner import PlannedStep, Planner, plan_pipeline
from flows.preflight import check_machine, preflight_errors, preflight_warnings
from flows.recipe import Recipe
from flows.recipe_loader import load_recipe
from flows.runner import run_pipeline
from flows.steps import TOKENIZE, StageName
from infra.dataset.dataset import Dataset
from infra.errors import UserError
from infra.store.storage import StorageError
from lm.launch.preflight import required_resources, training_warnings
from tests.suites.files import write_suite
from tests.train_entry import in_steps

RECIPE = """
name: small
sources: [{name: dump, kind: documents, paths: [FOLDER/dump.jsonl]}]
train:
  - name: tiny
    model: &size {num_layers: 2, hidden_size: 64, num_heads: 2, context_length: 64}
    data: {train_tokens: 1000}
    run: {num_processes: 2, precision: fp32}
  - {name: other, model: *size, data: {train_tokens: 1000}, run: {num_processes: 1, precision: fp32}}
"""
ZEN_3 = {"fma", "avx2", "vaes", "vpclmulqdq"}
TWO_THREADS = "train.tiny.run.threads_per_process=2"


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "dump.jsonl").write_text(json.dumps({"text": "The miller ground the corn."}))
    (tmp_path / "file").touch()
    file = tmp_path / "small.yaml"
    file.write_text(RECIPE.replace("FOLDER", str(tmp_path)) + f"storage: {tmp_path}/data\n")
    return str(file)


def load(path: str, *overrides: str) -> Recipe:
    folder = str(Path(path).parent)
    return load_recipe(path, [item.replace("FOLDER", folder) for item in overrides])


# An override, its field, and a word of the message.
ERRORS = [
    ("tokenize.tokenizer=/nope.json", "tokenize.tokenizer", "/nope.json"),
    ("tokenize.tokenizer=FOLDER", "tokenize.tokenizer", ""),
    ("tokenize.tokenizer=nope://x", "tokenize.tokenizer", "nope://x"),
    ("tokenize.tokenizer=FOLDER/file", "tokenize.tokenizer", "tokenizer.json"),
    ("train.tiny.run.device=cuda", "train.tiny.run.device", "1 GPU"),
    ("train.tiny.run.mlflow_tracking_uri=http://h:1", "train.tiny.run.mlflow_tracking_uri", ""),
    ("train.tiny.run.checkpoint_url=nope://x", "train.tiny.run.checkpoint_url", "nope://x"),
    ("train.tiny.run.checkpoint_url=FOLDER/file/x", "train.tiny.run.checkpoint_url", "FOLDER/file"),
    (
        "train.tiny.run.checkpoint_url=FOLDER/read_only/x/y",
        "train.tiny.run.checkpoint_url",
        "FOLDER/read_only",
    ),
]


@pytest.fixture
def limited_machine(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One GPU, no mlflow, and a folder without write permission."""
    read_only = Path(path).parent / "read_only"
    read_only.mkdir()
    monkeypatch.setattr("lm.launch.preflight.gpu_count", lambda: 1)
    monkeypatch.setattr("lm.metrics.mlflow.find_spec", lambda name: None)
    real = os.access

    def access(folder: Path, mode: int) -> bool:
        """Root, who may run the tests, has every permission."""
        return real(folder, mode) and not (mode and folder == read_only)

    monkeypatch.setattr("lm.launch.preflight.os.access", access)


@pytest.mark.usefixtures("limited_machine")
@pytest.mark.parametrize(("override", "field", "word"), ERRORS)
def test_a_run_is_refused_before_any_work(path: str, override: str, field: str, word: str) -> None:
    recipe = load(path, override)
    with pytest.raises(UserError) as error:
        run_pipeline(recipe, "evaluate", reason="a test")
    assert str(error.value).startswith(f"{field}: ")
    assert word.replace("FOLDER", str(Path(path).parent)) in str(error.value)
    assert not (Path(path).parent / "data").exists()


@pytest.mark.usefixtures("limited_machine")
def test_a_plan_reports_what_refuses_a_run(path: str) -> None:
    folder = str(Path(path).parent)
    several = [ERRORS[index] for index in (0, 4, 5, 7)]
    changes = [item for override, *_ in several for item in ("--set", override)]
    arguments = [item.replace("FOLDER", folder) for item in ("plan", path, *changes)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    steps, errors = lines[:10], lines[10:]
    assert steps[6].startswith("pending train tiny ")
    assert sorted(line.split(": ")[1] for line in errors) == sorted(item[1] for item in several)
    value = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert len(value["steps"]) == 10
    assert value["errors"] == [line.split(": ", 1)[1] for line in errors]
    assert json.loads(CliRunner().invoke(main, ["plan", path, "--json"]).stdout)["errors"] == []


def test_a_plan_continues_if_the_tokenizer_cannot_be_read(path: str) -> None:
    recipe = load(path, "tokenize.tokenizer=/nope.json")
    planner = plan_pipeline(recipe, "acquire")
    corpus = PlannedStep("select", None, None, "select/x", cast("Dataset", object()), "committed")
    tokens = planner(
        TOKENIZE,
        [corpus],
        lambda dataset: TOKENIZE.bind(config=recipe.tokenize, corpus=dataset(corpus)),
    )
    assert (tokens.folder, tokens.dataset) == (None, None)
    assert tokens.why.startswith("tokenize.tokenizer: ")


@pytest.mark.parametrize(
    ("gate", "is_refused"),
    [
        ("suite.animals.accuracy not worse", False),
        ("suite.memorization.trained.memorized_32 <= 0.1", False),
        ("bits_per_byte <= champion * 1.01", False),
        ("suite.animal.accuracy >= 0.5", True),
        ("bits_per_byte <= suite.plants.bits_per_byte", True),
        ("suite >= 1", True),
    ],
)
def test_a_gate_on_a_suite_that_nobody_scores_is_refused_before_the_training(
    path: str, tmp_path: Path, gate: str, *, is_refused: bool
) -> None:
    suite = write_suite(tmp_path, "animals", [{"good": "a", "bad": "b"}], type="minimal_pairs")
    evaluate = f"evaluate={{suites: [{suite}], memorization: {{}}}}"
    recipe = load(path, evaluate, f"release={{gates: [bits_per_byte < 9, '{gate}']}}")
    errors = preflight_errors(recipe, "score", lambda: plan_pipeline(recipe, "score"))
    assert [str(error).split(":")[0] for error in errors] == ["release.gates.1"] * is_refused
    assert all("animals, memorization" in str(error) for error in errors)
    check_machine(recipe, "train", lambda: plan_pipeline(recipe, "train"))


@pytest.mark.usefixtures("limited_machine")
def test_stages_that_do_not_run_require_nothing(path: str) -> None:
    recipe = load(path, "train.tiny.run.device=cuda")
    check_machine(recipe, "tokenize", lambda: plan_pipeline(recipe, "tokenize"))
    check_machine(load(path, "tokenize.tokenizer=/nope.json"), "select", refuse_to_plan)

    def plan_with_model(name: str) -> Planner:
        planner = plan_pipeline(recipe, "select")
        dataset = cast("Dataset", object())
        planner.steps.append(PlannedStep("train", None, name, "train/x", dataset, "committed"))
        return planner

    check_machine(recipe, "train", lambda: plan_with_model("tiny"))
    with pytest.raises(UserError, match=r"train\.tiny\.run\.device"):
        check_machine(recipe, "train", lambda: plan_with_model("other"))


def refuse_to_plan() -> Planner:
    raise AssertionError("no error requires a plan")


def test_settings_that_are_probably_not_intended_are_warned_about(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.preflight.os.cpu_count", lambda: 2)

    def warn(recipe: Recipe, until: StageName, gpus: int) -> list[str]:
        return preflight_warnings(recipe, until, gpus, lambda: plan_pipeline(recipe, until))

    assert warn(load(path), "train", gpus=0) == []
    (text,) = warn(load(path), "train", gpus=1)
    assert text.startswith("train.tiny.run.device: ")
    assert "1 GPU" in text
    assert warn(load(path), "tokenize", gpus=1) == []
    assert warn(load(path, "train.tiny.run.device=cpu"), "train", gpus=1) == []
    (text,) = warn(load(path, TWO_THREADS), "train", gpus=0)
    assert text.startswith("train.tiny.run.num_processes: ")
    assert warn(load(path, TWO_THREADS), "train", gpus=2) == []


class RunStarted(Exception):
    """The run has started."""


def raise_run_started() -> None:
    raise RunStarted


@pytest.mark.parametrize("reachable", [True, False])
def test_warnings_do_not_need_the_store(
    path: str, monkeypatch: pytest.MonkeyPatch, *, reachable: bool
) -> None:
    plans = []

    def plan(recipe: Recipe, until: StageName, **_: Any) -> Planner:
        plans.append(until)
        if reachable:
            return plan_pipeline(recipe, until)
        raise StorageError("unreachable")

    monkeypatch.setattr("flows.runner.gpu_count", lambda: 1)
    monkeypatch.setattr("flows.runner.plan_pipeline", plan)
    monkeypatch.setattr("flows.runner.new_console", raise_run_started)
    with pytest.raises(RunStarted):
        run_pipeline(load(path), "train", reason="a test")
    assert plans == ["train"]
    (text,) = preflight_warnings(load(path), "train", 1, lambda: plan(load(path), "train"))
    assert text.startswith("train.tiny.run.device: ")


@pytest.mark.parametrize(
    ("override", "gpus", "cores_and_gpus"),
    [
        ("train.tiny.run.threads_per_process=3", 0, (6, 0)),
        # Two processes do not fit on one GPU: they train on the CPU and leave the GPU to others.
        ("train.tiny.run.threads_per_process=3", 1, (6, 0)),
        ("train.tiny.run.threads_per_process=3", 2, (2, 2)),
        ("train.tiny.run.device=cuda", 8, (2, 2)),
        ("train.tiny.run.device=cpu", 8, (2, 0)),
    ],
)
def test_a_training_run_reserves_its_cores_and_gpus(
    path: str, override: str, gpus: int, cores_and_gpus: tuple[int, int]
) -> None:
    assert required_resources(in_steps(load(path, override).train[0]), gpus) == cores_and_gpus


@pytest.mark.parametrize("name", ["GRISTMILL_METRICS", "GRISTMILL_LOG_FORMAT"])
def test_a_wrong_variable_is_named_before_a_run_starts(
    path: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "nonsense")
    recipe = load(path)
    with pytest.raises(UserError, match=name):
        check_machine(recipe, "acquire", lambda: plan_pipeline(recipe, "acquire"))


@pytest.mark.parametrize(
    ("precision", "features", "is_warned"),
    [
        ("bf16", ZEN_3, True),
        ("bf16", {*ZEN_3, "avx512bw"}, False),
        ("bf16", {"asimd", "bf16"}, False),
        ("bf16", set(), False),
        ("fp16", {*ZEN_3, "avx512bw"}, True),
        ("fp32", ZEN_3, False),
    ],
)
def test_a_processor_without_instructions_for_a_precision_gives_a_warning(
    path: str, monkeypatch: pytest.MonkeyPatch, precision: str, features: set[str], is_warned: bool
) -> None:
    monkeypatch.setattr("lm.launch.preflight._cpu_features", lambda: features)
    recipe = load(path, f"train.tiny.run.precision={precision}")
    warnings = list(training_warnings(in_steps(recipe.train[0]), 2, 0))
    assert [text.split(":")[0] for text in warnings] == ["train.tiny.run.precision"] * is_warned
