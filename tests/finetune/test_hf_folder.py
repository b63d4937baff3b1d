"""Folders written by ``datasets``."""

import json

import pytest

from tasks.finetune.data.hf_folder import list_hf_files
from tasks.finetune.data.records import DataFileError


def state(*names: str, indices: str | None = None) -> bytes:
    # As datasets 5 writes it.
    files = [{"filename": name} for name in names]
    return json.dumps({"_data_files": files, "_split": "train", "_indices_files": indices}).encode()


def test_a_data_set_has_its_files_in_order() -> None:
    files = {"d/state.json": state("data-00000-of-00002.arrow", "data-00001-of-00002.arrow")}
    assert list_hf_files("d/", files.get) == [
        ("d/data-00000-of-00002.arrow", None),
        ("d/data-00001-of-00002.arrow", None),
    ]


def test_a_dictionary_of_data_sets_has_splits() -> None:
    files = {
        "d/dataset_dict.json": b'{"splits": ["train", "dev"]}',
        "d/train/state.json": state("a.arrow"),
        "d/dev/state.json": state("b.arrow"),
    }
    assert list_hf_files("d", files.get) == [
        ("d/train/a.arrow", "train"),
        ("d/dev/b.arrow", "validation"),
    ]


def test_another_folder_is_none() -> None:
    assert list_hf_files("d", dict[str, bytes]().get) is None


@pytest.mark.parametrize(
    "files",
    [
        {"d/dataset_dict.json": b'{"splits": ["unsupervised"]}'},
        {"d/dataset_dict.json": b'{"splits": ["train"]}'},
        {"d/state.json": state()},
        {"d/state.json": state("a.arrow", indices="i.arrow")},
        {"d/state.json": b"<html>"},
        {"d/dataset_dict.json": b"[1]"},
    ],
)
def test_a_folder_that_cannot_be_read_whole_is_one_error(files: dict[str, bytes]) -> None:
    with pytest.raises(DataFileError, match="d"):
        list_hf_files("d", files.get)
