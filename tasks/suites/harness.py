"""Read a task of lm-evaluation-harness, or a group of them, as a suite: its own prompts over the user's data.

lm-eval makes the texts (templates, solved examples, functions of its task files); they are scored as those of any other
suite. Only task files of the installed package are read, so that a recipe cannot name code of its own.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from pydantic import ValidationError

from tasks.suites.config import SuiteConfig
from tasks.suites.harness_data import SplitFiles, read_split, read_table
from tasks.suites.harness_settings import (
    find_members,
    generation_settings,
    is_task,
    load_settings,
    one_line_errors,
    read_task,
)
from tasks.suites.items import Suite, SuiteError, SuiteItem, draw_items

FEWSHOT_SEED = 1234  # lm-eval's default
SUITE_TYPES = {
    "multiple_choice": "multiple_choice",
    "loglikelihood": "cloze",
    "generate_until": "exact_match",
}
Files = tuple[tuple[str, SplitFiles], ...]  # split -> its files


def load_harness_suite(entry: Mapping[str, Any], field: str) -> Suite:
    """Read a task of lm-eval, or a group of tasks, with its data.

    Args:
        entry: an entry of ``evaluate.suites`` with ``harness``, the name of the task or group, and ``data``, the folder
            or URL of its files: ``test.jsonl`` or ``test-00000-of-00001.parquet`` for the split ``test``. Of a group,
            each task's data is in a folder of its own there. ``name``, ``num_fewshot``, ``max_items``, ``filter`` and
            ``license`` are optional.
        field: names the entry in messages.

    Raises:
        SuiteError: if lm-eval is not installed, has no such task, the task needs what is not supported, or the data
            has another form.
    """
    name = entry["harness"]
    title = f"{field}: lm-eval task {name!r}"
    if find_spec("lm_eval") is None:
        raise SuiteError(f"{title}: run pip install 'gristmill[harness]'")
    if is_task(name):
        suite = _load_task(entry, name, entry["data"], title)
    else:
        suite = _load_group(entry, title)
    own = {
        "name": entry.get("name", name),
        "items": entry["data"],
        "license": entry.get("license", "not stated"),
        "max_items": entry.get("max_items"),
    }
    config = _make_config(suite.config.model_dump(exclude_unset=True) | own, title)
    return replace(suite, config=config, items=draw_items(config, suite.items))


def _load_task(entry: Mapping[str, Any], task: str, data: str, title: str) -> Suite:
    """Return the suite of one task with all its items."""
    filter_name = entry.get("filter")
    config = load_settings(task, filter_name, title)
    shots = entry.get("num_fewshot")
    if shots and config.get("num_fewshot") == 0:  # lm-eval would ignore the number
        raise SuiteError(f"{title}: num_fewshot: the task is asked without solved items")
    shots = int(config.get("num_fewshot") or 0) if shots is None else shots
    files = _read_splits(config, data, shots, title)
    return _make_suite(task, data, shots, filter_name, files, title)


def _load_group(entry: Mapping[str, Any], title: str) -> Suite:
    """Return the items of all tasks of a group as one suite, each with its task as domain.

    Its figures are means over all items, as those of groups with ``weight_by_size`` are there.
    """
    group = entry["harness"]
    tasks = find_members(group, title)
    suites = []
    for task in tasks:
        one = f"{title}: {task}"
        folder = read_task(task, one, resolve_func=False).get("dataset_name") or task
        suites.append(_load_task(entry, task, f"{entry['data'].rstrip('/')}/{folder}", one))
    first = suites[0]
    for task, suite in zip(tasks, suites, strict=True):
        if suite.prefix_shots != first.prefix_shots:
            raise SuiteError(
                f"{title}: {tasks[0]!r} has {first.prefix_shots} solved items and {task!r} {suite.prefix_shots}: "
                "set num_fewshot"
            )
        ours, theirs = suite.config.to_json(), first.config.to_json()
        different = sorted(key for key in ours if ours[key] != theirs[key])
        if different:
            raise SuiteError(
                f"{title}: {tasks[0]!r} and {task!r} differ in {different[0]}: name the tasks one by one"
            )
    items = [
        replace(item, id=f"{task}:{item.id}", cluster=f"{task}:{item.cluster}", domain=domain)
        for task, suite in zip(tasks, suites, strict=True)
        for domain in [re.sub(r"[^A-Za-z0-9_-]", "-", task)]
        for item in suite.items
    ]
    return replace(first, items=items)


def _fewshot_split(config: Mapping[str, Any]) -> str | None:
    """Return the split that lm-eval draws solved examples from."""
    own = config.get("fewshot_config") or {}
    if own.get("samples") and not (own.get("split") or config.get("fewshot_split")):
        return None  # the task's file has them
    names = [own.get("split")]
    names += [config.get(f"{key}_split") for key in ("fewshot", "training", "validation", "test")]
    return next((name for name in names if name), None)


def _read_splits(config: Mapping[str, Any], data: str, shots: int, title: str) -> Files:
    """Read the files of the split that is scored, and of that of the solved examples if there are any."""
    scored = config.get("test_split") or config.get("validation_split")
    wanted = {scored, _fewshot_split(config)} if shots else {scored}
    splits = sorted(name for name in wanted if name)
    return tuple((split, read_split(data, split, title)) for split in splits)


# Plan and run ask for the same suites once per model.
@lru_cache(maxsize=512)  # groups have up to a hundred tasks
def _make_suite(
    task_name: str, data: str, shots: int, filter_name: str | None, files: Files, title: str
) -> Suite:
    """Make a suite of all rows; what it is called and where it stands is set later."""
    task = _build_task(task_name, shots, files, title)
    kind = task.OUTPUT_TYPE
    settings: dict[str, Any] = {
        "name": "task",
        "type": SUITE_TYPES[kind],
        "items": "items",
        "license": "not stated",
        "source": f"lm-evaluation-harness {version('lm_eval')}, {shots}-shot",
        "delimiter": "" if kind == "loglikelihood" else task.config.target_delimiter,
    }
    if kind == "multiple_choice":
        settings["normalize_by"] = "characters"
    raw = read_task(task_name, title, resolve_func=False)
    if kind == "generate_until":
        settings |= generation_settings(raw, filter_name, title)
    elif filter_name is not None:
        raise SuiteError(f"{title}: filter: only tasks with generated answers have any")
    config = _make_config(settings, title)
    with one_line_errors(title):
        documents = list(task.eval_docs)
    items = []
    for number, document in enumerate(documents):
        with one_line_errors(f"{title}: row {number + 1} of {data!r}"):
            items.append(_make_item(task, document, str(number), shots))
    if not items:
        raise SuiteError(f"{title}: data: {data!r} has no rows")
    return Suite(config, items, (), (), prefix_shots=shots)


def _make_config(settings: Mapping[str, Any], title: str) -> SuiteConfig:
    try:
        return SuiteConfig.model_validate(settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise SuiteError(f"{title}: {where}{first['msg']}") from None


def _build_task(task_name: str, shots: int, files: Files, title: str) -> Any:
    config = read_task(task_name, title, resolve_func=True)
    tables = {split: read_table(split, content, title) for split, content in files}
    for key in ("training_split", "validation_split", "test_split", "fewshot_split"):
        if config.get(key) not in tables:
            config[key] = None
    own = config.get("fewshot_config")
    if own and own.get("split") not in tables:
        config["fewshot_config"] = {key: own[key] for key in own if key != "split"}
    with one_line_errors(title):
        import datasets
        from lm_eval.api.task import ConfigurableTask

        datasets.disable_progress_bars()
        sets = {split: datasets.Dataset(table) for split, table in tables.items()}
        for key in ("tag", "group", "task_list"):
            config.pop(key, None)
        task = ConfigurableTask(
            config={**config, "num_fewshot": shots, "custom_dataset": lambda **_: sets}
        )
        task.set_fewshot_seed(FEWSHOT_SEED)
        return task


def _make_item(task: Any, document: Mapping[str, Any], name: str, shots: int) -> SuiteItem:
    """Make an item of a document: the texts that lm-eval would ask a model to score."""
    prompt = task.fewshot_context(document, shots)
    if task.OUTPUT_TYPE != "multiple_choice":
        question, target = task.doc_to_text(document), task.doc_to_target(document)
        if task.OUTPUT_TYPE == "generate_until":
            if task.config.doc_to_choice is not None:  # then the target is the number of one
                choices = task.doc_to_choice(document)
                _check_gold(target, len(choices), "doc_to_target")
                target = choices[target]
            answers = [str(one) for one in (target if isinstance(target, list) else [target])]
        else:
            answers = [target]
        _check_texts(answers, "doc_to_target")
        before = _prefix(prompt, question, "doc_to_text")
        return SuiteItem(name, None, name, question, tuple(answers), prefix=before)
    choices = list(task.doc_to_choice(document))
    _check_texts(choices, "doc_to_choice")
    if task.multiple_input:
        # The choices are contexts, and the target follows each; as in WinoGrande.
        target, gold = str(task.doc_to_target(document)), task.doc_to_text(document)
        _check_texts([target], "doc_to_target")
        _check_gold(gold, len(choices), "doc_to_text")
        before = _prefix(prompt[0], choices[0], "doc_to_choice")
        texts = tuple(choices)
        return SuiteItem(
            name, None, name, "", (target,) * len(texts), gold, prefix=before, contexts=texts
        )
    question, gold = task.doc_to_text(document), task.doc_to_target(document)
    if isinstance(gold, str) and gold in choices:
        gold = choices.index(gold)
    _check_gold(gold, len(choices), "doc_to_target")
    before = _prefix(prompt, question, "doc_to_text")
    return SuiteItem(name, None, name, question, tuple(choices), gold, prefix=before)


def _prefix(prompt: str, question: str, key: str) -> str:
    """Return what stands before the question of an item: a description and solved examples."""
    if not prompt.endswith(question):
        raise ValueError(f"{key}: the prompt does not end with the question {question!r}")
    return prompt[: len(prompt) - len(question)]


def _check_texts(texts: Sequence[Any], key: str) -> None:
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ValueError(f"{key}: not a list of texts that are not empty: {texts!r}")


def _check_gold(gold: Any, choices: int, key: str) -> None:
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < choices:
        raise ValueError(
            f"{key}: {gold!r} is not the number of one of {choices} choices; has the split no answers?"
        )
