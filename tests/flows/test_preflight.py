"""What a machine cannot do is said before anything is done."""

import json
import os
from pathlib import Path
from typing import cast

import pytest
from click.testing import CliRunner

from cli.main import main
from flows import preflight as plans
from flows.planner import PlannedStep, Planner, plan_pipeline
from flows.preflight import check_machine
from flows.recipe import Recipe
from flows.recipe_loader import load_recipe
from flows.runner import run_pipeline
from flows.steps import TOKENIZE, StageName
from infra.dataset.dataset import Dataset
from infra.errors import UserError
from infra.store.storage import StorageError
from lm.launch.preflight import required_resources

RECIPE = """
name: small
sources: [{name: dump, kind: documents, paths: [PLACE/dump.jsonl]}]
train:
  - name: tiny
    model: &size {num_layers: 2, hidden_size: 64, num_heads: 2, context_length: 64}
    data: {train_tokens: 1000}
    run: {num_processes: 2}
  - {name: other, model: *size, data: {train_tokens: 1000}, run: {num_processes: 1}}
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "dump.jsonl").write_text(json.dumps({"text": "The miller ground the corn."}))
    (tmp_path / "file").touch()
    file = tmp_path / "small.yaml"
    file.write_text(RECIPE.replace("PLACE", str(tmp_path)) + f"storage: {tmp_path}/data\n")
    return str(file)


def recipe(path: str, *overrides: str) -> Recipe:
    place = str(Path(path).parent)
    return load_recipe(path, [item.replace("PLACE", place) for item in overrides])


FAULTS = [
    ("tokenize.tokenizer=/nope.json", "tokenize.tokenizer: no file '/nope.json'"),
    ("tokenize.tokenizer=PLACE", "tokenize.tokenizer: "),
    ("tokenize.tokenizer=nope://x", "tokenize.tokenizer: storage 'nope://x' cannot be used"),
    ("tokenize.tokenizer=PLACE/file", "tokenize.tokenizer: PLACE/file: not a tokenizer.json"),
    (
        "train.tiny.run.device=cuda",
        "train.tiny.run.device: cuda, but torch sees 1 GPUs for 2 processes",
    ),
    (
        "train.tiny.run.mlflow_tracking_uri=http://h:1",
        "train.tiny.run.mlflow_tracking_uri: the package is not installed",
    ),
    (
        "train.tiny.run.checkpoint_url=nope://x",
        "train.tiny.run.checkpoint_url: storage 'nope://x' cannot",
    ),
    (
        "train.tiny.run.checkpoint_url=PLACE/file/x",
        "train.tiny.run.checkpoint_url: PLACE/file is no folder",
    ),
    (
        "train.tiny.run.checkpoint_url=PLACE/shut/x/y",
        "train.tiny.run.checkpoint_url: the folder PLACE/shut can",
    ),
]


@pytest.fixture
def bare(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one GPU, without mlflow, and with a folder that nobody may write to."""
    shut = Path(path).parent / "shut"
    shut.mkdir()
    monkeypatch.setattr("lm.launch.preflight.gpu_count", lambda: 1)
    monkeypatch.setattr("lm.metrics.mlflow.find_spec", lambda name: None)
    real = os.access

    def access(at: Path, mode: int) -> bool:
        """Whoever runs the tests may be allowed everything."""
        return real(at, mode) and not (mode and at == shut)

    monkeypatch.setattr("lm.launch.preflight.os.access", access)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(("override", "said"), FAULTS)
def test_a_run_is_refused_before_any_work(path: str, override: str, said: str) -> None:
    wanted = recipe(path, override)
    with pytest.raises(UserError) as error:
        run_pipeline(wanted, "evaluate")
    assert said.replace("PLACE", str(Path(path).parent)) in str(error.value)
    assert not (Path(path).parent / "data").exists()


@pytest.mark.usefixtures("bare")
def test_a_plan_is_told_where_a_run_is_refused(path: str) -> None:
    place = str(Path(path).parent)
    several = [FAULTS[number] for number in (0, 4, 5, 7)]
    changes = [item for override, _ in several for item in ("--set", override)]
    arguments = [item.replace("PLACE", place) for item in ("plan", path, *changes)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    shown = done.output.splitlines()
    assert len(shown) == 9 + len(several)
    assert shown[5].startswith("pending train tiny ")
    for _, said in several:
        (line,) = [line for line in shown[9:] if said.replace("PLACE", place) in line]
        assert line.startswith("`gristmill run` would be refused on this machine: t")
    value = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert len(value["steps"]) == 9
    assert value["errors"] == [line.split(": ", 1)[1] for line in shown[9:]]
    assert json.loads(CliRunner().invoke(main, ["plan", path, "--json"]).stdout)["errors"] == []


def test_a_plan_goes_on_where_the_tokenizer_cannot_be_read(path: str) -> None:
    wanted = recipe(path, "tokenize.tokenizer=/nope.json")
    planner = plan_pipeline(wanted, "acquire")
    corpus = PlannedStep("select", None, None, "select/x", cast("Dataset", object()), "committed")
    tokens = planner(
        TOKENIZE,
        [corpus],
        lambda dataset: TOKENIZE.bind(config=wanted.tokenize, corpus=dataset(corpus)),
    )
    assert (tokens.folder, tokens.dataset) == (None, None)
    assert tokens.why == "tokenize.tokenizer: no file '/nope.json'"


@pytest.mark.usefixtures("bare")
def test_what_is_not_reached_or_there_already_asks_for_nothing(path: str) -> None:
    wanted = recipe(path, "train.tiny.run.device=cuda")
    check_machine(wanted, "tokenize", lambda: plan_pipeline(wanted, "tokenize"))
    check_machine(recipe(path, "tokenize.tokenizer=/nope.json"), "select", nobody)

    def trained(name: str) -> Planner:
        planner = plan_pipeline(wanted, "select")
        data = cast("Dataset", object())
        planner.steps.append(PlannedStep("train", None, name, "train/x", data, "committed"))
        return planner

    check_machine(wanted, "train", lambda: trained("tiny"))
    with pytest.raises(UserError, match=r"train\.tiny\.run\.device"):
        check_machine(wanted, "train", lambda: trained("other"))


def nobody() -> Planner:
    raise AssertionError("nothing was amiss")


def test_what_is_hardly_meant_is_remarked(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.preflight.os.cpu_count", lambda: 2)

    def remarked(wanted: Recipe, until: StageName, gpus: int) -> list[str]:
        return plans.preflight_warnings(wanted, until, gpus, lambda: plan_pipeline(wanted, until))

    assert remarked(recipe(path), "train", gpus=0) == []
    (text,) = remarked(recipe(path), "train", gpus=1)
    assert text.startswith("train.tiny.run.device: auto takes the CPU: 2 processes")
    assert "only 1 GPUs" in text
    assert remarked(recipe(path), "tokenize", gpus=1) == []
    assert remarked(recipe(path, "train.tiny.run.device=cpu"), "train", gpus=1) == []
    (text,) = remarked(recipe(path, "train.tiny.run.threads_per_process=2"), "train", gpus=0)
    assert text.startswith("train.tiny.run.num_processes: 2 processes with 2 threads on 2 cores")
    assert remarked(recipe(path, "train.tiny.run.threads_per_process=2"), "train", gpus=2) == []


class Begun(Exception):
    """The run has begun."""


def begun() -> None:
    raise Begun


@pytest.mark.parametrize("there", [True, False])
def test_a_store_that_does_not_answer_does_not_end_a_run_before_it_begins(
    path: str, monkeypatch: pytest.MonkeyPatch, *, there: bool
) -> None:
    asked = []

    def walked(wanted: Recipe, until: StageName) -> Planner:
        asked.append(until)
        if there:
            return plan_pipeline(wanted, until)
        raise StorageError("away")

    monkeypatch.setattr("flows.runner.gpu_count", lambda: 1)
    monkeypatch.setattr("flows.runner.plan_pipeline", walked)
    monkeypatch.setattr("flows.runner.ConsoleReporter", begun)
    with pytest.raises(Begun):
        run_pipeline(recipe(path), "train")
    assert asked == ["train"]
    (text,) = plans.preflight_warnings(
        recipe(path), "train", 1, lambda: walked(recipe(path), "train")
    )
    assert text.startswith("train.tiny.run.device: auto takes the CPU")


@pytest.mark.parametrize(
    ("override", "gpus", "cores_and_gpus"),
    [
        ("train.tiny.run.threads_per_process=3", 0, (6, 0)),
        (
            "train.tiny.run.threads_per_process=3",
            1,
            (6, 0),
        ),  # it trains on the CPU and leaves the GPU to others
        ("train.tiny.run.threads_per_process=3", 2, (2, 2)),
        ("train.tiny.run.device=cuda", 8, (2, 2)),
        ("train.tiny.run.device=cpu", 8, (2, 0)),
    ],
)
def test_a_training_holds_what_it_takes(
    path: str, override: str, gpus: int, cores_and_gpus: tuple[int, int]
) -> None:
    assert required_resources(recipe(path, override).train[0], gpus) == cores_and_gpus
