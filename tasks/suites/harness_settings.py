"""Tasks of lm-evaluation-harness: their files and groups, and which settings of theirs have equal figures here."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tasks.suites.items import SuiteError

# lm-eval's kinds of tasks that are scored here, and which of their metrics. The rest has no equal figures.
OUTPUT_TYPES: Mapping[str, frozenset[str]] = {
    "multiple_choice": frozenset({"acc", "acc_norm"}),
    "loglikelihood": frozenset({"acc", "perplexity"}),
    "generate_until": frozenset({"exact_match"}),
}
# How lm-eval compares answers -> our name for it.
COMPARISONS = {
    "ignore_case": "ignore_case",
    "ignore_punctuation": "ignore_punctuation",
    "ignore_numbers": "ignore_numbers",
    "regexes_to_ignore": "ignore_patterns",
}
# Settings of lm-eval's filter `regex` -> our names; the defaults are the same.
EXTRACTION = {"group_select": "match", "fallback": "without_match"}
GROUP_KEYS = {"group", "group_alias", "task", "aggregate_metric_list", "metadata", "tag"}
MAX_NEW_TOKENS = 256  # lm-eval's default
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


def load_settings(task: str, filter_name: str | None, title: str) -> dict[str, Any]:
    """Return the settings of a task that can be scored here; its functions are paths, none of its Python is imported."""
    config = read_task(task, title, resolve_func=False)
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
    if kind == "generate_until":
        generation_settings(config, filter_name, title)
    return config


def generation_settings(
    config: Mapping[str, Any], filter_name: str | None, title: str
) -> dict[str, Any]:
    """Return the settings of a suite with answers that a model generates: what ends, finds and compares them.

    Args:
        config: the task's.
        filter_name: of its list of filters; ``None``: the first one.
        title: names the suite.

    Raises:
        SuiteError: if the task needs what is not supported.
    """
    options = dict(config.get("generation_kwargs") or {})
    until = options.pop("until", config.get("fewshot_delimiter", "\n\n"))
    length = options.pop("max_gen_toks", MAX_NEW_TOKENS)
    if options.pop("do_sample", False) or float(options.pop("temperature", 0) or 0):
        raise SuiteError(f"{title}: generation_kwargs: answers that are drawn are not supported")
    if options:
        raise SuiteError(f"{title}: generation_kwargs: {min(options)} is not supported")
    if int(config.get("repeats") or 1) > 1:
        raise SuiteError(f"{title}: repeats: several answers to a question are not supported")
    metrics: Sequence[Mapping[str, Any]] = config.get("metric_list") or ({},)
    metric = metrics[-1]
    unknown = metric.keys() - COMPARISONS.keys() - {"metric", "aggregation", "higher_is_better"}
    if unknown:
        raise SuiteError(f"{title}: metric_list: {min(unknown)} is not supported")
    if metric.get("aggregation", "mean") != "mean":
        raise SuiteError(f"{title}: metric_list: aggregation: only mean is supported")
    answer = {COMPARISONS[key]: value for key, value in metric.items() if key in COMPARISONS}
    return {
        "stop": [text for text in ([until] if isinstance(until, str) else until or []) if text],
        "max_new_tokens": length,
        "answer": {**answer, **_filter_settings(config, filter_name, title)},
    }


def _filter_settings(config: Mapping[str, Any], name: str | None, title: str) -> dict[str, Any]:
    """Return how a list of lm-eval's filters finds the answer in a text: the one of this name, or the first one."""
    lists = {one["name"]: one["filter"] for one in config.get("filter_list") or ()}
    if name is not None and name not in lists:
        known = ", ".join(lists) or "it has none"
        raise SuiteError(f"{title}: filter: it has no list {name!r}: {known}")
    filters = lists[name] if name is not None else next(iter(lists.values()), [])
    settings: dict[str, Any] = {}
    for one in filters:
        kind = one["function"]
        if kind == "remove_whitespace" and "pattern" not in settings:
            settings["strip"] = True
        elif kind == "regex" and "pattern" not in settings:
            settings["pattern"] = one.get("regex_pattern", r"#### (\-?[0-9\.\,]+)")
            settings |= {EXTRACTION[key]: one[key] for key in one if key in EXTRACTION}
        elif kind not in ("take_first", "remove_whitespace"):  # what was found has none around it
            raise SuiteError(f"{title}: filter_list: {kind} is not supported")
    return settings


def read_task(task: str, title: str, *, resolve_func: bool) -> dict[str, Any]:
    """Return the fields of a task, with those of the files that it includes."""
    return _load_yaml(_task_files()[task], title, resolve_func=resolve_func)


def _load_yaml(path: Path, title: str, *, resolve_func: bool) -> dict[str, Any]:
    with one_line_errors(title):
        from lm_eval.tasks._yaml_loader import load_yaml

        # It keeps what it has read, and lm-eval changes its tasks' settings.
        config: dict[str, Any] = deepcopy(load_yaml(path, resolve_func=resolve_func))
        return config


def is_task(name: str) -> bool:
    """Return whether the installed package has a task of this name."""
    return name in _task_files()


def _task_files() -> Mapping[str, Path]:
    """Return the file of each task of the installed package."""
    return _find_files()["task"]


def _group_files() -> Mapping[str, Path]:
    return _find_files()["group"]


@cache
def _find_files() -> Mapping[str, Mapping[str, Path]]:
    """Return the files of the installed package that name a task or a group, by key and name.

    lm-eval's own index parses 14,000 YAML files with what they include, which takes a quarter of a minute.
    """
    import lm_eval.tasks

    line = re.compile(
        rb"""^["']?(task|group)["']?:[ \t]*(["']?)([\w.()-]+)\2[ \t]*(?:#.*)?$""", re.MULTILINE
    )
    files: dict[str, dict[str, Path]] = {"task": {}, "group": {}}
    for path in sorted(Path(lm_eval.tasks.__path__[0]).glob("**/*.yaml")):
        for match in line.finditer(path.read_bytes()):
            files[match[1].decode()].setdefault(match[3].decode(), path)
    return files


def find_members(group: str, title: str) -> Sequence[str]:
    """Return the tasks of a group, also those of the groups and tags that it names, in its order.

    Raises:
        SuiteError: if lm-eval has no such group, or it is more than a list of tasks.
    """
    path = _group_files().get(group)
    if path is None:
        raise SuiteError(f"{title}: lm-eval {version('lm_eval')} has no task or group of this name")
    tasks: list[str] = []
    config = _load_yaml(path, title, resolve_func=False)
    members = config.get("task") or []
    for member in [members] if isinstance(members, str) else members:
        if not isinstance(member, str) or config.keys() - GROUP_KEYS:
            raise SuiteError(f"{title}: it changes settings of its tasks, which is not supported")
        if member in _task_files():
            tasks.append(member)
        elif member in _group_files():
            tasks += find_members(member, title)
        else:
            tasks += _tagged_tasks(path.parent, member, title)
    if not tasks:
        raise SuiteError(f"{title}: it names no tasks")
    return list(dict.fromkeys(tasks))


def _tagged_tasks(folder: Path, tag: str, title: str) -> Sequence[str]:
    """Return the tasks with a tag in and below a folder, by name, as lm-eval has them."""
    tasks = []
    for name, path in _task_files().items():
        if path.is_relative_to(folder):
            tags = _load_yaml(path, title, resolve_func=False).get("tag") or []
            if tag in ([tags] if isinstance(tags, str) else tags):
                tasks.append(name)
    if not tasks:
        raise SuiteError(
            f"{title}: it names {tag!r}, which is neither a task, a group nor a tag of tasks beside it"
        )
    return sorted(tasks)


@contextmanager
def one_line_errors(title: str) -> Iterator[None]:
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
