"""Tasks of lm-evaluation-harness: the prompts, log-likelihoods and accuracies are those that it has itself."""

import json
from collections.abc import Callable, Mapping, Sequence
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
from tasks.suites import harness_settings
from tasks.suites.harness import load_harness_suite
from tasks.suites.items import Suite, SuiteError
from tasks.suites.load import load_suites
from tasks.suites.prompts import make_prompts
from tasks.suites.score import score_items
from tasks.suites.task import describe_suite
from tests.evaluate import tiny
from tests.lm.corpora import tokenizer

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
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
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
    entry = {"harness": task, "data": str(folder), "num_fewshot": SHOTS.get(task, 0), **values}
    return load_harness_suite(entry, "evaluate.suites.0")


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
    (tmp_path / "validation.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(SuiteError, match="row 3"):
        load("piqa", tmp_path)
    (tmp_path / "validation.jsonl").write_text("{}\n{")
    with pytest.raises(SuiteError, match=r"validation\.jsonl: line 2"):
        load("piqa", tmp_path)


@pytest.fixture
def own_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Give lm-eval a further task, ``own``, and return the folder of its data."""

    def add(python: str, **fields: Any) -> Path:
        folder = tmp_path / "tasks"
        folder.mkdir()
        (folder / "own_functions.py").write_text(python)
        task = "".join(f"{name}: {value}\n" for name, value in {**OWN_TASK, **fields}.items())
        (folder / "own.yaml").write_text(task)
        monkeypatch.setattr(harness_settings, "_task_files", lambda: {"own": folder / "own.yaml"})
        return tmp_path

    return add


OWN_TASK = {
    "task": "own",
    "output_type": "loglikelihood",
    "test_split": "test",
    "doc_to_text": "'{{goal}}{{hint or \"\"}}'",
    "doc_to_target": "'{{answer}}'",
    "metric_list": "[{metric: acc}]",
}
ROWS = [{"goal": "grind", "answer": "corn"}, {"goal": "see", "answer": "far", "hint": " the sea"}]


def write_split(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("\n".join(json.dumps(row) for row in rows))


def test_python_of_a_task_that_cannot_be_imported_is_an_error_of_one_line(
    own_task: Callable[..., Path],
) -> None:
    folder = own_task("import no_such_module", doc_to_text="!function own_functions.ask")
    write_split(folder / "test.jsonl", ROWS)
    with pytest.raises(SuiteError, match=r"'own': ModuleNotFoundError: .*no_such_module") as error:
        load("own", folder)
    assert "\n" not in str(error.value)


def test_a_metric_of_its_own_is_named_without_its_folder(own_task: Callable[..., Path]) -> None:
    folder = own_task("", metric_list="[{metric: !function own_functions.measure}]")
    with pytest.raises(SuiteError, match=r"metric_list: own_functions\.measure is not") as error:
        load("own", folder)
    assert str(folder) not in str(error.value)


def test_a_prompt_without_its_question_is_named_with_field_and_row(
    own_task: Callable[..., Path],
) -> None:
    python = "numbers = iter(range(100))\ndef ask(row):\n    return f'Question {next(numbers)}'\n"
    folder = own_task(python, doc_to_text="!function own_functions.ask")
    write_split(folder / "test.jsonl", ROWS)
    with pytest.raises(SuiteError, match=r"'own': row 1 of .*: doc_to_text: the prompt"):
        load("own", folder)


def test_a_column_that_the_first_row_has_not_is_kept(own_task: Callable[..., Path]) -> None:
    folder = own_task("")
    write_split(folder / "test.jsonl", ROWS)
    assert list(make_prompts(load("own", folder))) == ["grind", "see the sea"]


def test_files_of_a_split_that_differ_are_an_error_of_one_line(
    own_task: Callable[..., Path],
) -> None:
    folder = own_task("")
    for number, value in enumerate(("corn", [1])):
        rows = [{"goal": "grind", "answer": value}]
        name = f"test-0000{number}-of-00002.parquet"
        pq.write_table(pa.Table.from_pylist(rows), folder / name)
    with pytest.raises(SuiteError, match="data: the files of 'test' differ: ") as error:
        load("own", folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["test.jsonl", "test-00000-of-00001.parquet"], "more than once, keep one of test"),
        (["test.jsonl", "test.jsonl.gz"], "more than once"),
        (["test-00000-of-00001.jsonl", "test.jsonl"], "more than once"),
        (["test-00000-of-00001.jsonl", "test-00000-of-00002.jsonl"], "more than once"),
        (["test-00000-of-00001-0123456789abcdef.jsonl", "test-00000-of-00001.jsonl"], "more than once"),
        (["test-00001-of-00002.jsonl"], "of 2 parts there are only test-00001-of-00002.jsonl"),
        (["test.json"], "no file of"),
        (["test-hard.jsonl"], "no file of"),
    ],
)  # fmt: skip
def test_a_split_has_one_form_and_all_its_parts(
    names: Sequence[str], message: str, own_task: Callable[..., Path]
) -> None:
    folder = own_task("")
    for name in names:
        write_split(folder / name, ROWS)
    with pytest.raises(SuiteError, match=message):
        load("own", folder)


def test_other_files_beside_a_split_are_not_part_of_it(own_task: Callable[..., Path]) -> None:
    folder = own_task("")
    for name in ("test-hard.jsonl", "test.jsonl", "test.json", "test.old.jsonl"):
        write_split(folder / name, ROWS)
    assert len(load("own", folder).items) == len(ROWS)


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


def write_mmlu(folder: Path) -> Sequence[str]:
    """Write the data of MMLU's subjects of science, and return them."""
    tasks = harness_settings.find_members("mmlu_stem", "")
    subjects = [task.removeprefix("mmlu_") for task in tasks]
    for number, subject in enumerate(subjects):
        (folder / subject).mkdir()
        rows = [
            {"question": f"{subject} {noun}?", "choices": list(NOUNS[:4]), "answer": number % 4}
            for noun in NOUNS[: 1 + number % 2]
        ]
        write_split(folder / subject / "test.jsonl", rows)
    return subjects


def test_a_group_is_one_suite_of_its_tasks_with_a_domain_each(tmp_path: Path) -> None:
    subjects = write_mmlu(tmp_path)
    assert len(subjects) == 19
    group = load("mmlu_stem", tmp_path, name="stem")
    assert group.name == "stem"
    assert list(dict.fromkeys(item.domain for item in group.items)) == [
        f"mmlu_{subject}" for subject in subjects
    ]
    one = load("mmlu_college_physics", tmp_path / "college_physics")
    own = [item for item in group.items if item.domain == "mmlu_college_physics"]
    assert [(item.context, item.choices, item.gold, item.prefix) for item in own] == [
        (item.context, item.choices, item.gold, item.prefix) for item in one.items
    ]
    assert len({item.id for item in group.items}) == len(group.items)
    assert len(load("mmlu_stem", tmp_path, max_items=5).items) == 5


def test_a_task_of_a_group_is_named_in_errors(tmp_path: Path) -> None:
    subjects = write_mmlu(tmp_path)
    (tmp_path / subjects[3] / "test.jsonl").unlink()
    with pytest.raises(SuiteError, match=rf"'mmlu_stem': mmlu_{subjects[3]}: data: .*'test'"):
        load("mmlu_stem", tmp_path)
    for group, message in (
        ("openllm", "it changes settings of its tasks"),
        ("pythia", "it names 'ai2_arc', which is neither"),
        (
            "bbh_zeroshot",
            "bbh_zeroshot_boolean_expressions: num_fewshot: the task is asked without",
        ),
    ):
        with pytest.raises(SuiteError, match=f"'{group}': {message}"):
            load(group, tmp_path, num_fewshot=2)


def test_names_with_parentheses_are_found() -> None:
    tasks = harness_settings.find_members("tmmluplus_social_sciences", "")
    assert "tmmluplus_education_(profession_level)" in tasks


def test_a_generated_answer_that_is_one_of_several_choices_is_its_text(
    own_task: Callable[..., Path],
) -> None:
    folder = own_task(
        "",
        output_type="generate_until",
        doc_to_target="label",
        doc_to_choice="[' no', ' yes']",
        metric_list="[{metric: exact_match}]",
    )
    write_split(folder / "test.jsonl", [{"goal": "grind", "hint": "", "label": n} for n in (1, 0)])
    assert [item.choices for item in load("own", folder).items] == [(" yes",), (" no",)]
