"""Tasks of lm-evaluation-harness: the prompts, log-likelihoods and accuracies are those that it has itself."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from transformers import LlamaForCausalLM

from lm.scoring.huggingface import HuggingFaceModel
from tasks.suites.items import Suite, SuiteError
from tasks.suites.load import load_suites
from tasks.suites.prompts import make_prompts
from tasks.suites.score import score_items
from tasks.suites.task import describe_suite
from tests.evaluate import tiny
from tests.lm.corpora import tokenizer
from tests.suites.files import load_harness, write_split

# `test_harness_environment.py` runs this in an environment that has it.
lm_eval = pytest.importorskip("lm_eval")
lm_eval_tasks = pytest.importorskip("lm_eval.tasks")
TemplateLM: Any = pytest.importorskip("lm_eval.api.model").TemplateLM

CONTEXT = 256
NOUNS = ("crow", "miller", "Mühle", "road", "sea", "corn", "house", "stones")


def questions(split: str) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{split}-{number}",
            "question": f"Who of the {split} saw the {noun}?",
            "choices": {"text": ["a crow", "the old müller", noun], "label": ["A", "B", "C"]},
            "answerKey": "ABC"[number % 3],
        }
        for number, noun in enumerate(NOUNS)
    ]


# Task -> split -> rows with the columns of its data set on the hub.
DATA: Mapping[str, Mapping[str, list[dict[str, Any]]]] = {
    "arc_easy": {"test": questions("test"), "train": questions("train")},
    "winogrande": {
        "validation": [
            {
                "sentence": f"The {noun} saw the old crow because _ was near.",
                "option1": f"the {noun}",
                "option2": "the old crow",
                "answer": str(1 + number % 2),
            }
            for number, noun in enumerate(NOUNS)
        ]
    },
    "lambada_openai": {"test": [{"text": f"The miller ground corn by the {noun}"} for noun in NOUNS]},
    "hellaswag": {
        "validation": [
            {
                "activity_label": "Milling",
                "ctx_a": f"The miller looks at the {noun}.",
                "ctx_b": "he",
                "endings": ["grinds corn.", "falls [title] down.", f"sees the {noun}."],
                "label": str(number % 3),
            }
            for number, noun in enumerate(NOUNS)
        ]
    },
    "gsm8k": {
        split: [
            {"question": f"The {split} has {n} crows?", "answer": f"It is {n}.\n#### {n},000"}
            for n, _ in enumerate(NOUNS)
        ]
        for split in ("train", "test")
    },
    "triviaqa": {
        "validation": [
            {"question": f"Who saw the {noun}", "answer": {"aliases": [noun, "The Miller!"]}}
            for noun in NOUNS
        ]
    },
}  # fmt: skip
SHOTS = {"arc_easy": 2, "gsm8k": 1}
# What the model says after a prompt, by the number of the row; the rest of a real text is cut off.
SAID = (
    "\nQuestion: 1",
    " 1,000.",
    " It is\n#### 2,000 or 5",
    "#### 7",
    " the miller, or",
    "Mühle\n",
    "",
    "4 and 5 5,000",
)


def write_rows(folder: Path, task: str) -> Path:
    """Write the data of a task; lm-eval reads the same files."""
    for split, rows in DATA[task].items():
        write_split(folder / f"{split}.jsonl", rows)
    return folder


class Peer(TemplateLM):  # type: ignore[misc]
    """lm-eval's own way from a task to tokens, and log-likelihoods by transformers."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @property
    def eot_token_id(self) -> int:
        return 0

    def tok_encode(self, string: str, *_: Any, **__: Any) -> list[int]:
        return list(tokenizer().encode(string, add_special_tokens=False).ids)

    def _loglikelihood_tokens(self, requests: Any, **_: Any) -> list[tuple[float, bool]]:
        answers = []
        for _pair, context, continuation in requests:
            ids = torch.tensor([*context, *continuation])[-CONTEXT - 1 :]
            with torch.no_grad():
                logits = self.model(ids[None, :-1]).logits[0].log_softmax(-1)[-len(continuation) :]
            target = ids[-len(continuation) :]
            value = logits.gather(1, target[:, None]).sum()
            answers.append((float(value), bool((logits.argmax(1) == target).all())))
        return answers

    def loglikelihood_rolling(self, *_: Any, **__: Any) -> list[float]:
        raise NotImplementedError

    def generate_until(self, requests: Any, **_: Any) -> list[str]:
        """As lm-eval's class of transformers' models does, from the text on."""
        answers = []
        for request, said in zip(requests, cycle(SAID), strict=False):
            answers.append(said)
            for stop in request.args[1]["until"]:
                answers[-1] = answers[-1].split(stop)[0]
        return answers


class Speaker(HuggingFaceModel):
    """Says the texts of ``SAID``."""

    def generate(self, prompts: Any, *_: Any, **__: Any) -> list[Any]:
        said = (text for _, text in zip(prompts, cycle(SAID), strict=False))
        return [tokenizer().encode(text, add_special_tokens=False).ids for text in said]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    return {task: write_rows(tmp_path_factory.mktemp(task), task) for task in DATA}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    return tiny.save(folder, tokenizer().get_vocab_size(), context=CONTEXT)


@pytest.fixture(scope="module")
def peer(
    data: Mapping[str, Path], model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Any]:
    """lm-eval's results, and by task what it asked the model."""
    folder = tmp_path_factory.mktemp("tasks")
    files = {path.stem: path for path in Path(lm_eval_tasks.__path__[0]).glob("*/*.yaml")}
    for task in ("winogrande", "triviaqa"):
        files[task] = Path(lm_eval_tasks.__path__[0]) / task / "default.yaml"
    for task, path in data.items():
        value = {
            "include": str(files[task]),
            "task": task,
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {
                "data_files": {split: str(path / f"{split}.jsonl") for split in DATA[task]},
                "cache_dir": str(folder / "cache"),
            },
            "num_fewshot": SHOTS.get(task, 0),
            **{f"{split}_split": None for split in ("training",) if "train" not in DATA[task]},
        }
        (folder / f"{task}.yaml").write_text(yaml.safe_dump(value))
    manager = lm_eval_tasks.TaskManager(include_path=str(folder), include_defaults=False)
    result: Mapping[str, Any] = lm_eval.simple_evaluate(
        Peer(model), tasks=list(data), task_manager=manager, bootstrap_iters=0, log_samples=True
    )
    return result


def load(task: str, folder: Path, **values: Any) -> Suite:
    return load_harness(task, folder, **{"num_fewshot": SHOTS.get(task, 0), **values})


# Of several ways to find the answer in a text, the first one is used unless another one is named.
FILTERS = {"gsm8k": "strict-match"}


@pytest.mark.parametrize(
    ("task", "filters"), [*((task, None) for task in DATA), ("gsm8k", "flexible-extract")]
)
def test_prompts_and_figures_are_those_of_lm_eval(
    task: str, filters: str | None, data: Mapping[str, Path], model: Path, peer: Mapping[str, Any]
) -> None:
    suite = load(task, data[task], **({} if filters is None else {"filter": filters}))
    prompts = list(make_prompts(suite))
    scorer = Speaker(model, 0)
    scored = score_items(suite.config, suite.items, prompts, scorer, tokenizer(), 0)
    wanted = filters or FILTERS.get(task)
    samples: Sequence[Mapping[str, Any]] = [
        sample for sample in peer["samples"][task] if wanted in (None, sample["filter"])
    ]
    assert len(scored) == len(samples) == len(NOUNS)
    for item, prompt, one, sample in zip(suite.items, prompts, scored, samples, strict=True):
        texts = [
            (prompt + (item.contexts or [""] * len(item.choices))[index], suite.config.delimiter + text)
            for index, text in enumerate(item.choices)
        ]  # fmt: skip
        if suite.config.type == "exact_match":
            assert prompt == sample["arguments"][0][0]
            assert one.row["prediction"] == sample["filtered_resps"][0]
            assert one.metrics["exact_match"][0] == sample["exact_match"]
            continue
        assert texts == [tuple(pair) for pair in sample["arguments"]]
        theirs = [-float(pair[0]) for pair in sample["filtered_resps"]]
        assert one.row["nats"] == pytest.approx(theirs, abs=1e-4)
    for ours, name in (("accuracy", "acc"), ("accuracy_norm", "acc_norm")):
        expected = peer["results"][task].get(f"{name},none")
        if expected is not None:
            assert sum(one.metrics[ours][0] for one in scored) / len(scored) == expected


def test_solved_items_come_from_the_training_split(data: Mapping[str, Path]) -> None:
    suite = load("arc_easy", data["arc_easy"])
    for item, prompt in zip(suite.items, make_prompts(suite), strict=True):
        assert prompt.count("of the train saw") == 2
        assert "train" not in item.context


def test_parquet_as_on_the_hub_is_the_same_suite(data: Mapping[str, Path], tmp_path: Path) -> None:
    for split, rows in DATA["arc_easy"].items():
        for number, part in enumerate((rows[:3], rows[3:])):
            name = f"{split}-0000{number}-of-00002.parquet"
            pq.write_table(pa.Table.from_pylist(part), tmp_path / name)
    plain = load("arc_easy", data["arc_easy"])
    assert load("arc_easy", tmp_path).key == plain.key
    fewer = load("arc_easy", tmp_path, max_items=3)
    by_id = {item.id: item for item in plain.items}
    assert len(fewer.items) == 3
    assert all(item == by_id[item.id] for item in fewer.items)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("wikitext", ["process_results"]),
        ("tinyGSM8k", ["metric_list", "aggregation"]),
        ("truthfulqa_mc2", ["process_results"]),
        ("squadv2", ["class"]),
        ("ifeval", ["process_results"]),  # its Python imports what lm-eval does not bring along
        ("cb", ["metric_list", "f1"]),
        ("no_such_task", ["no_such_task"]),
        ("piqa", ["goal"]),
        ("arc_easy", ["test.jsonl"]),
    ],
)
def test_what_is_not_supported_is_named_with_its_task(
    task: str, words: list[str], data: Mapping[str, Path]
) -> None:
    with pytest.raises(SuiteError) as error:
        load(task, data["winogrande"])
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"evaluate.suites.0: lm-eval task {task!r}: ")
    assert all(word in message for word in words)


def test_a_row_without_an_answer_is_named(tmp_path: Path) -> None:
    rows = [{"goal": "see", "sol1": "look", "sol2": "sleep", "label": n} for n in (0, 1, -1)]
    write_split(tmp_path / "validation.jsonl", rows)
    with pytest.raises(SuiteError, match="row 3"):
        load("piqa", tmp_path)
    (tmp_path / "validation.jsonl").write_text("{}\n{")
    with pytest.raises(SuiteError, match=r"validation\.jsonl: line 2"):
        load("piqa", tmp_path)


def test_a_task_with_and_without_solved_items_is_two_suites(data: Mapping[str, Path]) -> None:
    plain = {"harness": "arc_easy", "data": str(data["arc_easy"]), "num_fewshot": 0}
    solved = {**plain, "num_fewshot": 2}
    with pytest.raises(SuiteError, match=r"evaluate\.suites\.1: .*'arc_easy', too.* `name`"):
        load_suites([plain, solved])
    suites = load_suites([plain, {**solved, "name": "arc_2shot"}])
    described = [describe_suite(suite) for suite in suites]
    assert [(one["name"], one["num_fewshot"]) for one in described] == [
        ("arc_easy", 0),
        ("arc_2shot", 2),
    ]
    with pytest.raises(SuiteError, match="'arc_easy': name: "):
        load_suites([{**plain, "name": "no name"}])


def test_a_task_with_several_filters_has_the_one_that_is_named(data: Mapping[str, Path]) -> None:
    flexible = load("gsm8k", data["gsm8k"], filter="flexible-extract")
    assert flexible.config.answer is not None
    assert (flexible.config.answer.match, flexible.config.stop[0]) == (-1, "Question:")
    assert flexible.key != load("gsm8k", data["gsm8k"]).key
    with pytest.raises(
        SuiteError, match=r"'gsm8k': filter: it has no list 'x': strict-match, flex"
    ):
        load("gsm8k", data["gsm8k"], filter="x")
    with pytest.raises(SuiteError, match=r"filter: only tasks with generated answers"):
        load("arc_easy", data["arc_easy"], filter="x")
