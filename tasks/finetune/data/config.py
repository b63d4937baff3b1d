"""The `data` section of an entry of `finetune`: files of examples, and their splits."""

import codecs
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from infra.config import ConfigModel

Format = Literal[
    "jsonl", "json", "csv", "tsv", "parquet", "arrow", "conll", "conll2012", "squad", "lines", "tmx", "po", "mo",
]  # fmt: skip
FORMATS: tuple[Format, ...] = get_args(Format)
# Two files with a text per line, whose lines translate each other.
FilePair = tuple[str, str]


def _number_to_name(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


ColumnName = Annotated[str, BeforeValidator(_number_to_name)]


class TaskDataConfig(ConfigModel):
    """Files of examples, and which of them are trained on, validated on and tested on."""

    files: tuple[str | FilePair, ...] = Field(
        (),
        description=(
            "paths or URLs of files that are divided into three splits by a digest of each example's "
            "input; a pair of files of parallel text is a list of two"
        ),
    )
    train: tuple[str | FilePair, ...] = Field((), description="files that are trained on only")
    validation: tuple[str | FilePair, ...] = Field(
        (), description="files that are validated on only"
    )
    test: tuple[str | FilePair, ...] = Field((), description="files that are tested on only")
    format: Format | None = Field(
        None, description="of all files; default: by the suffix of each"
    )
    columns: dict[str, ColumnName] = Field(
        default_factory=dict,
        description=(
            "the task's columns: the files' columns; those with the same name need no entry. Numbers "
            "from 0 for CoNLL and for files without a header"
        ),
    )
    license: str | None = Field(
        None,
        min_length=1,
        description=(
            "license of the examples, as their source states it: it is on the model card, and a removal of "
            "it removes them; default: that of the column `license`, if there is one"
        ),
    )
    header: bool = Field(
        True, description="whether CSV and TSV files begin with the names of their columns"
    )
    delimiter: str | None = Field(
        None,
        min_length=1,
        max_length=1,
        description="what divides the fields of CSV and TSV files, such as ';'; default: a comma, a tab",
    )
    encoding: str = Field("utf-8", description="of CSV and TSV files")
    validation_fraction: float = Field(
        0.1, ge=0, lt=1, description="fraction of `files` that is validated on"
    )
    test_fraction: float = Field(
        0.1, ge=0, lt=1, description="fraction of `files` that is tested on"
    )
    near_duplicate_threshold: float | None = Field(
        0.7,
        gt=0,
        le=1,
        description=(
            "similarity (Jaccard, of 5-character shingles) to a test example from which a training "
            "example is dropped; null: only equal inputs are"
        ),
    )

    @field_validator("delimiter")
    @classmethod
    def _check_delimiter(cls, value: str | None) -> str | None:
        if value in ('"', "\r", "\n"):
            raise ValueError(f"{value!r} cannot divide fields: it is a quote or ends a row")
        return value

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, value: str) -> str:
        try:
            codecs.lookup(value)
        except LookupError:
            raise ValueError(f"{value!r} is no encoding that Python knows, such as utf-8 or latin-1") from None
        return value

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        if not self.files and not (self.train and self.test):
            raise ValueError("files, or train and test, must name files of examples")
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction and test_fraction leave nothing to train on")
        return self

    @property
    def by_split(self) -> dict[str, tuple[str | FilePair, ...]]:
        """The files by the split that they are of; ``files`` is drawn."""
        return {name: getattr(self, name) for name in ("files", "train", "validation", "test")}


class LabelDataConfig(TaskDataConfig):
    """Files of labeled examples."""

    labels: tuple[str, ...] = Field(
        (), description="labels that are allowed; default: all that occur"
    )
    label_separator: str | None = Field(
        None,
        min_length=1,
        description="what separates several labels of an example; each is one with it",
    )
