"""Predict which span of a passage answers a question (Devlin et al. 2019, arXiv:1810.04805, section 4.2-4.3).

The model reads ``<end> question <end> passage <end>``. A passage that does not fit is read in windows that
overlap by half. A row is ``[start, end | ids]``: the positions of the answer's first and last token, or 0
and 0, the first token, if the window has no answer; then the ids, padded on the right.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from lm.objectives.examples import Examples, Rows
from lm.objectives.text_rows import PADDING, TextEncoder, pad_rows, trim

NUM_TARGETS = 2
MAX_ANSWER_TOKENS = 30  # as in the code of Devlin et al.


@dataclass(frozen=True)
class Spans:
    """The model reads question and passage, and predicts where the answer starts and ends."""

    def __call__(self, rows: Rows, samples: Rows) -> Examples:  # noqa: ARG002 - nothing is drawn
        """See ``Objective``; the layout of rows is the module's."""
        ids = trim(rows[:, NUM_TARGETS:])
        return Examples(
            torch.from_numpy(np.ascontiguousarray(ids)),
            torch.from_numpy(np.ascontiguousarray(rows[:, :NUM_TARGETS])),
            torch.from_numpy((ids >= 0).sum(1)),
        )


@dataclass(frozen=True)
class Question:
    """A question about a passage.

    Attributes:
        question: its text.
        context: the passage.
        answer: half-open range of the answer's characters in the passage; ``None``: it has none, or it
            is to be predicted.
    """

    question: str
    context: str
    answer: tuple[int, int] | None = None


@dataclass(frozen=True)
class EncodedQuestions:
    """Windows of passages as rows.

    Attributes:
        rows: int64[n, 2 + max_length].
        question: int64[n], the number of each window's question.
        char_ranges: int64[n, max_length, 2], the characters of the passage that each token covers, half open;
            (-1, -1) for tokens that are not the passage's.
    """

    rows: Rows
    question: npt.NDArray[np.int64]
    char_ranges: npt.NDArray[np.int64]


def encode(
    encoder: TextEncoder, questions: Sequence[Question], max_length: int
) -> EncodedQuestions:
    """Return the rows of questions; of a question its first half of ``max_length`` tokens is read."""
    ids, targets, owners, ranges = [], [], [], []
    for number, item in enumerate(questions):
        asked = [token for token, _ in encoder.encode_plain(item.question)][: max_length // 2]
        prefix = [encoder.eos_id, *asked, encoder.eos_id]
        passage = [
            (token, strip(item.context, *at)) for token, at in encoder.encode_plain(item.context)
        ]
        room = max_length - len(prefix) - 1
        starts = range(0, max(1, len(passage) - room // 2), max(1, room - room // 2))
        for start in starts:
            window = passage[start : start + room]
            ids.append([*prefix, *(token for token, _ in window), encoder.eos_id])
            at = np.full((max_length, 2), PADDING, np.int64)
            if window:
                at[len(prefix) : len(prefix) + len(window)] = [chars for _, chars in window]
            ranges.append(at)
            targets.append(find_span(at, item.answer))
            owners.append(number)
    rows = np.hstack([np.array(targets, np.int64).reshape(-1, 2), pad_rows(ids, max_length)])
    return EncodedQuestions(
        rows, np.array(owners, np.int64), np.array(ranges, np.int64).reshape(-1, max_length, 2)
    )


def strip(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a range without the spaces at its start, which belong to the word that follows."""
    while start < end and text[start].isspace():
        start += 1
    return start, end


def find_span(
    char_ranges: npt.NDArray[np.int64], answer: tuple[int, int] | None
) -> tuple[int, int]:
    """Return the positions of the first and last token of an answer; (0, 0) if not all of it is there."""
    if answer is None:
        return 0, 0
    starts, ends = char_ranges.T
    first = np.flatnonzero((starts <= answer[0]) & (answer[0] < ends))
    last = np.flatnonzero((starts < answer[1]) & (answer[1] <= ends))
    if not len(first) or not len(last):
        return 0, 0
    return int(first[0]), int(last[-1])


@dataclass(frozen=True)
class Answer:
    """What a model answers.

    Attributes:
        text: the span; empty if the model finds no answer.
        score: by how much the best span's logits exceed those of no answer.
    """

    text: str
    score: float


def decode(
    logits: npt.NDArray[np.float32],
    encoded: EncodedQuestions,
    questions: Sequence[Question],
    *,
    threshold: float | None = 0.0,
) -> list[Answer]:
    """Return the best span of each question over all its windows.

    Args:
        logits: float[n, T, 2], of the rows; T may be shorter than the rows.
        encoded: the rows.
        questions: what they were made of.
        threshold: a score up to it means no answer; ``None``: each question has one.
    """
    best = [(-np.inf, "")] * len(questions)
    none = np.full(len(questions), np.inf)
    length = logits.shape[1]
    offset = np.arange(length)
    allowed = (offset[None] >= offset[:, None]) & (
        offset[None] < offset[:, None] + MAX_ANSWER_TOKENS
    )
    for scores, ranges, number in zip(
        logits, encoded.char_ranges[:, :length], encoded.question, strict=True
    ):
        none[number] = min(none[number], float(scores[0].sum()))
        in_passage = (ranges[:, 0] >= 0) & (ranges[:, 0] < ranges[:, 1])
        sums = scores[:, 0][:, None] + scores[:, 1][None]
        sums = np.where(allowed & in_passage[:, None] & in_passage[None], sums, -np.inf)
        start, end = np.unravel_index(int(sums.argmax()), sums.shape)
        if sums[start, end] > best[number][0]:
            chars = slice(int(ranges[start, 0]), int(ranges[end, 1]))
            best[number] = float(sums[start, end]), questions[number].context[chars]
    answers = []
    for (score, text), other in zip(best, none, strict=True):
        above = score - float(other)
        has_answer = text and (threshold is None or above > threshold)
        answers.append(Answer(text if has_answer else "", above))
    return answers
