"""Tasks and groups of lm-evaluation-harness: which files are read, and what is refused with its name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.suites import harness_settings
from tasks.suites.items import SuiteError
from tasks.suites.prompts import make_prompts
from tests.suites.files import load_harness, write_split

# `test_harness_environment.py` runs this in an environment that has it.
pytest.importorskip("lm_eval")

OWN_TASK = {
    "task": "own",
    "output_type": "loglikelihood",
    "test_split": "test",
    "doc_to_text": "'{{goal}}{{hint or \"\"}}'",
    "doc_to_target": "'{{answer}}'",
    "metric_list": "[{metric: acc}]",
}
ROWS = [{"goal": "grind", "answer": "corn"}, {"goal": "see", "answer": "far", "hint": " the sea"}]
NOUNS = ("crow", "miller", "Mühle", "road")


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


def test_python_of_a_task_that_cannot_be_imported_is_an_error_of_one_line(
    own_task: Callable[..., Path],
) -> None:
    folder = own_task("import no_such_module", doc_to_text="!function own_functions.ask")
    write_split(folder / "test.jsonl", ROWS)
    with pytest.raises(SuiteError, match=r"'own': ModuleNotFoundError: .*no_such_module") as error:
        load_harness("own", folder)
    assert "\n" not in str(error.value)


def test_a_metric_of_its_own_is_named_without_its_folder(own_task: Callable[..., Path]) -> None:
    folder = own_task("", metric_list="[{metric: !function own_functions.measure}]")
    with pytest.raises(SuiteError, match=r"metric_list: own_functions\.measure is not") as error:
        load_harness("own", folder)
    assert str(folder) not in str(error.value)


def test_a_prompt_without_its_question_is_named_with_field_and_row(
    own_task: Callable[..., Path],
) -> None:
    python = "numbers = iter(range(100))\ndef ask(row):\n    return f'Question {next(numbers)}'\n"
    folder = own_task(python, doc_to_text="!function own_functions.ask")
    write_split(folder / "test.jsonl", ROWS)
    with pytest.raises(SuiteError, match=r"'own': row 1 of .*: doc_to_text: the prompt"):
        load_harness("own", folder)


def test_a_column_that_the_first_row_has_not_is_kept(own_task: Callable[..., Path]) -> None:
    folder = own_task("")
    write_split(folder / "test.jsonl", ROWS)
    assert list(make_prompts(load_harness("own", folder))) == ["grind", "see the sea"]


def test_files_of_a_split_that_differ_are_an_error_of_one_line(
    own_task: Callable[..., Path],
) -> None:
    folder = own_task("")
    for number, value in enumerate(("corn", [1])):
        rows = [{"goal": "grind", "answer": value}]
        name = f"test-0000{number}-of-00002.parquet"
        pq.write_table(pa.Table.from_pylist(rows), folder / name)
    with pytest.raises(SuiteError, match="data: the files of 'test' differ: ") as error:
        load_harness("own", folder)
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
        load_harness("own", folder)


def test_other_files_beside_a_split_are_not_part_of_it(own_task: Callable[..., Path]) -> None:
    folder = own_task("")
    for name in ("test-hard.jsonl", "test.jsonl", "test.json", "test.old.jsonl"):
        write_split(folder / name, ROWS)
    assert len(load_harness("own", folder).items) == len(ROWS)


def write_mmlu(folder: Path) -> Sequence[str]:
    """Write the data of MMLU's subjects of science, and return them."""
    tasks = harness_settings.find_members("mmlu_stem", "")
    subjects = [task.removeprefix("mmlu_") for task in tasks]
    for number, subject in enumerate(subjects):
        (folder / subject).mkdir()
        rows = [
            {"question": f"{subject} {noun}?", "choices": list(NOUNS), "answer": number % 4}
            for noun in NOUNS[: 1 + number % 2]
        ]
        write_split(folder / subject / "test.jsonl", rows)
    return subjects


def test_a_group_is_one_suite_of_its_tasks_with_a_domain_each(tmp_path: Path) -> None:
    subjects = write_mmlu(tmp_path)
    assert len(subjects) == 19
    group = load_harness("mmlu_stem", tmp_path, name="stem")
    assert group.name == "stem"
    assert list(dict.fromkeys(item.domain for item in group.items)) == [
        f"mmlu_{subject}" for subject in subjects
    ]
    one = load_harness("mmlu_college_physics", tmp_path / "college_physics")
    own = [item for item in group.items if item.domain == "mmlu_college_physics"]
    assert [(item.context, item.choices, item.gold, item.prefix) for item in own] == [
        (item.context, item.choices, item.gold, item.prefix) for item in one.items
    ]
    assert len({item.id for item in group.items}) == len(group.items)
    assert len(load_harness("mmlu_stem", tmp_path, max_items=5).items) == 5


def test_a_task_of_a_group_is_named_in_errors(tmp_path: Path) -> None:
    subjects = write_mmlu(tmp_path)
    (tmp_path / subjects[3] / "test.jsonl").unlink()
    with pytest.raises(SuiteError, match=rf"'mmlu_stem': mmlu_{subjects[3]}: data: .*'test'"):
        load_harness("mmlu_stem", tmp_path)
    for group, message in (
        ("openllm", "it changes settings of its tasks"),
        ("pythia", "it names 'ai2_arc', which is neither"),
        (
            "bbh_zeroshot",
            "bbh_zeroshot_boolean_expressions: num_fewshot: the task is asked without",
        ),
    ):
        with pytest.raises(SuiteError, match=f"'{group}': {message}"):
            load_harness(group, tmp_path, num_fewshot=2)


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
    assert [item.choices for item in load_harness("own", folder).items] == [(" yes",), (" no",)]
