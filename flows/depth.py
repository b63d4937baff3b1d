"""Fill in what follows from the ``depth`` of a decoder, before the recipe is validated."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from infra.config import ConfigModel
from infra.store.environment import expand
from lm.config.entry import DEFAULT_FAMILY, TrainEntry
from lm.config.run import RunConfig
from lm.models.decoder.config import DecoderEntry
from lm.models.decoder.depth import DERIVED_KEYS, MAX_DEPTH, derive_from_depth
from tasks.tokenize.config import TokenizeConfig

SECTIONS = ("model", "data", "optim")


def fill_in_depth(value: dict[str, Any]) -> dict[str, Any]:
    """Return the raw recipe with the sections of entries that have a ``depth`` filled in.

    Wrong values stay as they are: validation reports them.

    Raises:
        ValueError: if a variable is not set, or the size of the vocabulary is not known.
    """
    entries, tokenize = value.get("train"), value.get("tokenize") or {}
    if not isinstance(entries, list | tuple) or not isinstance(tokenize, Mapping):
        return value
    return {
        **value,
        "train": [
            _fill_in(entry, tokenize) if _raw_depth(entry) is not None else entry
            for entry in entries
        ],
    }


def _raw_depth(entry: Any) -> Any:
    if isinstance(entry, Mapping) and entry.get("family", DEFAULT_FAMILY) == DEFAULT_FAMILY:
        return entry.get("depth")
    return None


def _fill_in(entry: Mapping[str, Any], tokenize: Mapping[str, Any]) -> Any:
    given = {name: entry.get(name) or {} for name in (*SECTIONS, "run")}
    if not all(isinstance(section, Mapping) for section in given.values()):
        return entry
    if tokenize.get("tokenizer") is not None:
        raise ValueError(
            f"train.{entry.get('name')}.depth: the vocabulary of tokenize.tokenizer is not known "
            "before the run; give the keys of model, data and optim instead of depth"
        )
    vocab_size = tokenize.get("vocab_size", _default(TokenizeConfig, "vocab_size"))
    processes = given["run"].get("num_processes", _default(RunConfig, "num_processes"))
    arguments = vocab_size, processes, given["model"], given["data"]
    try:
        vocab_size, processes, model, data = expand(list(arguments))
        derived = derive_from_depth(
            int(expand(entry["depth"])), int(vocab_size), int(processes), model, data
        )
    except (ValidationError, TypeError, ValueError, ArithmeticError):
        # Something is wrong, which validation will name. It is not to report missing keys as well.
        depth = entry["depth"] if entry["depth"] in range(1, MAX_DEPTH + 1) else 1
        derived = derive_from_depth(depth, _default(TokenizeConfig, "vocab_size"), 1, {}, {})
    return {**entry, **{name: {**derived[name], **given[name]} for name in SECTIONS}}


def _default(section: type[ConfigModel], key: str) -> Any:
    return section.model_fields[key].default


def forget_derived(raw: Any, entry: TrainEntry) -> None:
    """Mark what was filled in as not given, so that a dump of what was given does not hold it.

    Args:
        raw: the entry before it was filled in.
        entry: the entry made from it.
    """
    if _raw_depth(raw) is None or not isinstance(entry, DecoderEntry):
        return
    for name, key in DERIVED_KEYS:
        given = raw.get(name) or {}
        if key not in given:
            getattr(entry, name).model_fields_set.discard(key)
        if not given:
            entry.model_fields_set.discard(name)


def resolved_depth(entry: TrainEntry) -> Iterator[tuple[str, Any]]:
    """Yield the keys that follow from an entry's depth, with the values that it is trained with."""
    if isinstance(entry, DecoderEntry) and entry.depth is not None:
        for name, key in DERIVED_KEYS:
            yield f"{name}.{key}", getattr(getattr(entry, name), key)
