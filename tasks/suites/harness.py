"""Read a task of lm-evaluation-harness as a suite: its own prompts over the user's data.

lm-eval makes the texts (templates, solved examples, functions of its task files); they are scored as those of any other
suite. Only task files of the installed package are read, so that a recipe cannot name code of its own.
"""

import gzip
import logging
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cache, lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from infra.formats.jsonl import InvalidRowError, parse_line
from infra.store.external_files import expand_globs, read_url
from infra.store.storage import StorageError
from tasks.suites.config import SuiteConfig
from tasks.suites.items import Suite, SuiteError, SuiteItem, draw_items

FEWSHOT_SEED = 1234  # lm-eval's default
# After the name of the split: which of how many parts, with the digest that older data sets have there, and the format.
SPLIT_FILE = re.compile(
    r"(?:-(?P<part>\d+)-of-(?P<parts>\d+)(?:-[0-9a-f]{16})?)?\.(?P<format>jsonl|jsonl\.gz|parquet)"
)
# lm-eval's kinds of tasks that are scored here, and which of their metrics. The rest has no equal figures.
OUTPUT_TYPES: Mapping[str, frozenset[str]] = {
    "multiple_choice": frozenset({"acc", "acc_norm"}),
    "loglikelihood": frozenset({"acc", "perplexity"}),
}
UNSUPPORTED = (
    "class",
    "custom_dataset",
    "process_results",
    "use_prompt",
    "gen_prefix",
    "doc_to_image",
    "doc_to_audio",
    "unsafe_code",
)
Files = tuple[tuple[str, tuple[tuple[str, bytes], ...]], ...]  # split -> its files


def load_harness_suite(entry: Mapping[str, Any], field: str) -> Suite:
    """Read a task of lm-eval with its data.

    Args:
        entry: an entry of ``evaluate.suites`` with ``harness``, the task's name, and ``data``, the folder or URL of its
            files: ``test.jsonl`` or ``test-00000-of-00001.parquet`` for the split ``test``. ``name``, ``num_fewshot``,
            ``max_items`` and ``license`` are optional.
        field: names the entry in messages.

    Raises:
        SuiteError: if lm-eval is not installed, has no such task, the task needs what is not supported, or the data
            has another form.
    """
    task = entry["harness"]
    title = f"{field}: lm-eval task {task!r}"
    if find_spec("lm_eval") is None:
        raise SuiteError(f"{title}: run pip install 'gristmill[harness]'")
    config = _load_settings(task, title)
    shots = entry.get("num_fewshot")
    shots = int(config.get("num_fewshot") or 0) if shots is None else shots
    files = _read_splits(config, entry["data"], shots, title)
    return _make_suite(
        task,
        entry.get("name", task),
        entry["data"],
        shots,
        entry.get("max_items"),
        entry.get("license", "not stated"),
        files,
        title,
    )


def _load_settings(task: str, title: str) -> dict[str, Any]:
    """Return the settings of a task that can be scored here; its functions are paths, none of its Python is imported."""
    config = _read_yaml(task, title, resolve_func=False)
    for key in UNSUPPORTED:
        if config.get(key):
            raise SuiteError(f"{title}: {key}: tasks with it are not supported")
    kind = config.get("output_type", "generate_until")
    if kind not in OUTPUT_TYPES:
        known = ", ".join(OUTPUT_TYPES)
        raise SuiteError(
            f"{title}: output_type: {kind} is not supported, only {known}; write a suite of your own for it"
        )
    for metric in config.get("metric_list") or ():
        if metric["metric"] not in OUTPUT_TYPES[kind]:
            named = metric["metric"].rpartition("/")[2]
            raise SuiteError(
                f"{title}: metric_list: {named} is not supported, only "
                f"{', '.join(sorted(OUTPUT_TYPES[kind]))}"
            )
    return config


def _read_yaml(task: str, title: str, *, resolve_func: bool) -> dict[str, Any]:
    """Return the fields of a task, with those of the files that it includes."""
    with _one_line_errors(title):
        from lm_eval.tasks._yaml_loader import load_yaml

        path = _task_files().get(task)
        if path is None:
            raise SuiteError(f"{title}: lm-eval {version('lm_eval')} has no task of this name")
        # It keeps what it has read, and lm-eval changes its tasks' settings.
        config: dict[str, Any] = deepcopy(load_yaml(path, resolve_func=resolve_func))
        return config


@cache
def _task_files() -> Mapping[str, Path]:
    """Return the file of each task of the installed package.

    lm-eval's own index parses 14,000 YAML files with what they include, which takes a quarter of a minute.
    """
    import lm_eval.tasks

    line = re.compile(
        rb"""^["']?task["']?:[ \t]*["']?([\w.-]+)["']?[ \t]*(?:#.*)?$""", re.MULTILINE
    )
    files: dict[str, Path] = {}
    for path in sorted(Path(lm_eval.tasks.__path__[0]).glob("**/*.yaml")):
        match = line.search(path.read_bytes())
        if match is not None:
            files.setdefault(match[1].decode(), path)
    return files


def _fewshot_split(config: Mapping[str, Any]) -> str | None:
    """Return the split that lm-eval draws solved examples from."""
    own = config.get("fewshot_config") or {}
    names = [own.get("split")]
    names += [config.get(f"{key}_split") for key in ("fewshot", "training", "validation", "test")]
    return next((name for name in names if name), None)


def _read_splits(config: Mapping[str, Any], data: str, shots: int, title: str) -> Files:
    """Read the files of the split that is scored, and of that of the solved examples if there are any."""
    scored = config.get("test_split") or config.get("validation_split")
    wanted = {scored, _fewshot_split(config)} if shots else {scored}
    splits = []
    for split in sorted(name for name in wanted if name):
        try:
            urls = _find_split(data, split)
            files = tuple((_file_name(url), read_url(url)) for url in urls)
        except StorageError as error:
            raise SuiteError(
                f"{title}: data: the split {split!r} is needed, as {split}.jsonl or "
                f"{split}-00000-of-00001.parquet in {data!r}: {error}"
            ) from None
        splits.append((split, files))
    return tuple(splits)


def _find_split(data: str, split: str) -> Sequence[str]:
    """Return the files of a split in order, all of one form: two forms would hold each row twice."""
    forms: dict[tuple[str, int], list[tuple[int, str]]] = {}
    for url in expand_globs([f"{data.rstrip('/')}/{split}[.-]*"]):
        match = SPLIT_FILE.fullmatch(_file_name(url).removeprefix(split))
        if match is not None:
            form = (match["format"], int(match["parts"] or 1))
            forms.setdefault(form, []).append((int(match["part"] or 0), url))
    if not forms:
        raise StorageError("no file of .jsonl, .jsonl.gz, .parquet")
    numbered = [item for files in forms.values() for item in sorted(files)]
    names = ", ".join(_file_name(url) for _, url in numbered)
    parts = next(iter(forms))[1]
    if len(forms) > 1 or len({part for part, _ in numbered}) < len(numbered):
        raise StorageError(f"it is there more than once, keep one of {names}")
    if [part for part, _ in numbered] != list(range(parts)):
        raise StorageError(f"of {parts} parts there are only {names}")
    return [url for _, url in numbered]


def _file_name(url: str) -> str:
    return PurePosixPath(urlsplit(url).path).name


def _read_table(split: str, files: Sequence[tuple[str, bytes]], title: str) -> pa.Table:
    tables, where = [], split
    try:
        for where, data in files:
            if where.endswith(".parquet"):
                tables.append(pq.read_table(pa.BufferReader(data)))
                continue
            rows = list(_iter_rows(where, data))
            # The columns of a table are those of its first row.
            columns = dict.fromkeys(key for row in rows for key in row)
            tables.append(pa.Table.from_pylist([{**columns, **row} for row in rows]))
        where = f"the files of {split!r} differ"
        return pa.concat_tables(tables, promote_options="permissive")
    except (OSError, EOFError, zlib.error, pa.ArrowException, InvalidRowError) as error:
        message = str(error).splitlines()[0]
        raise SuiteError(f"{title}: data: {where}: {message}") from None


def _iter_rows(name: str, data: bytes) -> Iterator[dict[str, Any]]:
    text = gzip.decompress(data) if name.endswith(".gz") else data
    for number, line in enumerate(text.split(b"\n"), 1):
        if line.strip():
            try:
                yield parse_line(line.removeprefix(b"\xef\xbb\xbf"))
            except InvalidRowError as error:
                raise InvalidRowError(error.reason, f"line {number}: {error}") from None


# Plan and run ask for the same suites once per model.
@lru_cache(maxsize=32)
def _make_suite(
    task_name: str,
    name: str,
    data: str,
    shots: int,
    max_items: int | None,
    license_name: str,
    files: Files,
    title: str,
) -> Suite:
    task = _build_task(task_name, shots, files, title)
    kind = task.OUTPUT_TYPE
    source = f"lm-evaluation-harness {version('lm_eval')}, {shots}-shot"
    settings: dict[str, Any] = {
        "name": name,
        "type": "multiple_choice" if kind == "multiple_choice" else "cloze",
        "items": data,
        "license": license_name,
        "source": source,
        "delimiter": task.config.target_delimiter if kind == "multiple_choice" else "",
        "max_items": max_items,
    }
    if kind == "multiple_choice":
        settings["normalize_by"] = "characters"
    try:
        config = SuiteConfig.model_validate(settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise SuiteError(f"{title}: {first['loc'][0]}: {first['msg']}") from None
    with _one_line_errors(title):
        documents = list(task.eval_docs)
    items = []
    for number, document in enumerate(documents):
        with _one_line_errors(f"{title}: row {number + 1} of {data!r}"):
            items.append(_make_item(task, document, str(number), shots))
    if not items:
        raise SuiteError(f"{title}: data: {data!r} has no rows")
    return Suite(config, draw_items(config, items), (), (), prefix_shots=shots)


def _build_task(task_name: str, shots: int, files: Files, title: str) -> Any:
    config = _read_yaml(task_name, title, resolve_func=True)
    tables = {split: _read_table(split, content, title) for split, content in files}
    for key in ("training_split", "validation_split", "test_split", "fewshot_split"):
        if config.get(key) not in tables:
            config[key] = None
    own = config.get("fewshot_config")
    if own and own.get("split") not in tables:
        config["fewshot_config"] = {key: own[key] for key in own if key != "split"}
    with _one_line_errors(title):
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


@contextmanager
def _one_line_errors(title: str) -> Iterator[None]:
    """Turn what lm-eval, its templates and functions raise into an error of one line; silence its notes on its own tasks."""
    log = logging.getLogger("lm_eval")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    except SuiteError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or ["failed"]
        raise SuiteError(f"{title}: {type(error).__name__}: {lines[0]}") from error
    finally:
        log.setLevel(level)


def _make_item(task: Any, document: Mapping[str, Any], name: str, shots: int) -> SuiteItem:
    """Make an item of a document: the texts that lm-eval would ask a model to score."""
    prompt = task.fewshot_context(document, shots)
    if task.OUTPUT_TYPE == "loglikelihood":
        question, target = task.doc_to_text(document), task.doc_to_target(document)
        _check_texts([target], "doc_to_target")
        before = _prefix(prompt, question, "doc_to_text")
        return SuiteItem(name, None, name, question, (target,), prefix=before)
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
