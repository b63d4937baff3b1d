"""The recipe: one YAML file, one model, one place where a user's mistake is explained."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, StringConstraints, ValidationError, model_validator

from infra.compute.cluster import ClusterConfig
from infra.config import ConfigModel
from infra.errors import UserError
from lm.config.train import TrainConfig
from tasks.acquire.config import Source
from tasks.annotate.config import AnnotateConfig
from tasks.dedup.config import DedupConfig
from tasks.evaluate.config import EvaluateConfig
from tasks.extract.config import ExtractConfig
from tasks.select.config import SelectConfig
from tasks.tokenize.config import TokenizeConfig

# Text, which pydantic's own engine takes: with Python's ``$`` a name could end in a new line.
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
Name = Annotated[str, StringConstraints(pattern=_NAME)]
_ENV_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class RecipeError(UserError):
    """A recipe that cannot be used; the message names the file and the field, a line per fault."""


class Recipe(ConfigModel):
    """All that a run depends on, but the raw bytes of its sources."""

    name: Name = Field(description="names the run's records and report")
    storage: str = Field("./data", description="root of the store: a folder or any fsspec URL")
    seed: int = Field(1337, ge=0, lt=2**63, description="the only source of randomness")
    cluster: ClusterConfig = Field(default_factory=lambda: ClusterConfig.model_validate({}))
    sources: tuple[Source, ...] = Field(min_length=1, description="where documents come from")
    extract: ExtractConfig = Field(default_factory=ExtractConfig)
    annotate: AnnotateConfig = Field(default_factory=AnnotateConfig)
    dedup: DedupConfig = Field(default_factory=DedupConfig)
    select: SelectConfig = Field(default_factory=SelectConfig)
    tokenize: TokenizeConfig = Field(default_factory=TokenizeConfig)
    train: tuple[TrainConfig, ...] = Field(
        (), description="models to train, each evaluated on its own; may be left out"
    )
    evaluate: EvaluateConfig | None = Field(
        None, description="how models are evaluated; left out: they are not"
    )

    @model_validator(mode="before")
    @classmethod
    def _expand_env(cls, value: Any) -> Any:
        """``${NAME}`` means the environment of the machine that does the work, however it got there."""
        return _substitute_env(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _check_entries(self) -> Self:
        for what, names in (
            ("sources", [source.name for source in self.sources]),
            ("train", [entry.name for entry in self.train]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two entries of {what} are named {twice[0]!r}")
        sources = [source.name for source in self.sources]
        for entry in self.train:
            for name in entry.data.mixture or ():
                if name not in sources:
                    raise ValueError(
                        f"train.{entry.name}.data.mixture.{name}: no source has this name; there are "
                        f"{', '.join(sorted(sources))}"
                    )
        for place, entry in enumerate(self.train):
            if entry.init_from is not None:
                self._check_init_from(entry, self.train[:place])
        if self.train and self.evaluate is not None and not self.tokenize.validation_fraction:
            raise ValueError(
                "evaluate needs held-out documents: set tokenize.validation_fraction above 0"
            )
        for entry in self.train:
            if entry.optim.early_stopping_patience and not self.tokenize.validation_fraction:
                raise ValueError(
                    f"train.{entry.name}.optim.early_stopping_patience needs held-out documents: set "
                    "tokenize.validation_fraction above 0"
                )
        return self

    @staticmethod
    def _check_init_from(entry: TrainConfig, earlier: Sequence[TrainConfig]) -> None:
        """Raise ``ValueError`` unless the entry can start with the weights of one before it."""
        base = next((other for other in earlier if other.name == entry.init_from), None)
        if base is None:
            there = ", ".join(other.name for other in earlier) or "none"
            raise ValueError(
                f"train.{entry.name}.init_from: {entry.init_from!r} is no entry of train that "
                f"stands before this one; there is {there}"
            )
        own, others = entry.model.architecture_key(), base.model.architecture_key()
        for name, value in own.items():
            if others.get(name) != value:
                raise ValueError(
                    f"train.{entry.name}.model.{name}: {value!r}, but {base.name}, whose weights it "
                    f"starts with, has {others.get(name)!r}"
                )


class _Loader(yaml.SafeLoader):
    """YAML in which a key stands once, and ``no`` is Norwegian rather than false."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        """A mapping; raises ``ConstructorError`` if it names a key twice."""
        seen = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is not None and name != "<<" and name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {name!r} stands twice", key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def load_recipe(path: str, overrides: Sequence[str] = (), storage: str | None = None) -> Recipe:
    """Read a recipe.

    Args:
        path: a YAML file. ``${NAME}`` and ``${NAME:-default}`` in its strings are replaced from
            the environment.
        overrides: ``section.key=value`` each, the value in YAML; list entries are chosen by
            position or by name, as in ``train.tiny.model.num_layers=2``.
        storage: replaces the recipe's ``storage``.

    Raises:
        RecipeError: naming the file, the field and what was expected.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from None
    try:
        value = yaml.load(text, _Loader)  # noqa: S506 - a safe loader, made stricter
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise RecipeError(f"{path}: a mapping with name, sources, ... is expected")
    for override in overrides:
        _apply_override(value, override)
    if storage is not None:
        value["storage"] = storage
    try:
        return Recipe.model_validate(value)
    except ValidationError as error:
        raise RecipeError("\n".join(format_validation_errors(path, error, value))) from None


def format_validation_errors(path: str, error: ValidationError, value: Any = None) -> list[str]:
    """A line for every fault: the file, the field, what is wrong with it.

    Args:
        path: of the file.
        error: all faults.
        value: what the file holds, for the names of entries; without it they are numbered.
    """
    lines = []
    faults = error.errors(include_url=False)
    for fault in faults:
        place = fault["loc"]
        if any(other["loc"][: len(place)] == place != other["loc"] for other in faults):
            continue  # a list that lacks an entry because that entry is wrong
        where = ": ".join([path, *filter(None, [".".join(_field_path(place, value))])])
        if fault["type"] == "extra_forbidden":
            lines.append(f"{where}: unknown key")
            continue
        message = fault["msg"].removeprefix("Value error, ")
        given = fault.get("input")
        shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
        lines.append(f"{where}: {message}{shown}")
    return lines


def _field_path(loc: Sequence[int | str], value: Any) -> Iterator[str]:
    """The keys of a field; an entry of a list by its name, where it alone has this name."""
    for key in loc:
        shown = str(key)
        if isinstance(value, list) and isinstance(key, int):
            names = [item.get("name") if isinstance(item, dict) else None for item in value]
            there = key < len(names)  # an entry that is missing is beyond those that were given
            name = names[key] if there else None
            if isinstance(name, str) and re.fullmatch(_NAME, name) and names.count(name) == 1:
                shown = name
            value = value[key] if there else None
        elif isinstance(value, dict):
            value = value.get(key, value)  # the kind of a source is in the place, not in the value
        yield shown


def _substitute_env(value: Any) -> Any:
    if isinstance(value, str):
        return _ENV_REFERENCE.sub(_lookup_env, value)
    if isinstance(value, dict):
        return {key: _substitute_env(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute_env(item) for item in value]
    return value


def _lookup_env(match: re.Match[str]) -> str:
    name, default = match.groups()
    found = os.environ.get(name)
    if default is not None:
        return found or default
    if found is None:
        raise ValueError(f"the environment has no {name}; set it, or write ${{{name}:-default}}")
    return found


def _apply_override(value: dict[str, Any], override: str) -> None:
    """Set one field of the raw recipe in place."""
    path, equals, text = override.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise RecipeError(f"--set {override}: section.key=value is expected")
    try:
        new = yaml.load(text, _Loader)  # noqa: S506 - a safe loader, made stricter
    except yaml.YAMLError:
        raise RecipeError(f"--set {override}: the value is not YAML") from None
    here: Any = value
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(here, list):
            index = _entry_index(here, key)
            if index is None:
                raise RecipeError(f"--set {override}: {'.'.join(keys[:depth])} has no entry {key}")
            if last:
                here[index] = new
            else:
                here = here[index]
        elif isinstance(here, dict):
            if last:
                here[key] = new
            else:
                if here.get(key) is None:
                    here[key] = {}
                here = here[key]
        else:
            raise RecipeError(f"--set {override}: {'.'.join(keys[:depth])} has no fields")


def _entry_index(entries: Sequence[Any], key: str) -> int | None:
    if key.isdigit() and int(key) < len(entries):
        return int(key)
    for index, entry in enumerate(entries):
        if isinstance(entry, Mapping) and entry.get("name") == key:
            return index
    return None
