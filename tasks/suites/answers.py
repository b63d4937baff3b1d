"""Answers in generated texts: found by a pattern and compared, as lm-evaluation-harness's filters and `exact_match` do."""

import re
import string
from collections.abc import Sequence

from tasks.suites.config import AnswerConfig

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_DIGITS = str.maketrans("", "", string.digits)


def find_answer(text: str, config: AnswerConfig) -> str:
    """Return the answer in a text, or ``config.without_match``."""
    if config.strip:
        text = text.strip()
    if config.pattern is None:
        return text
    matches = re.findall(config.pattern, text)
    if not -len(matches) <= config.match < len(matches):
        return config.without_match
    found = matches[config.match]
    if isinstance(found, tuple):  # of a pattern with several groups
        found = next((group for group in found if group), config.without_match)
    return str(found).strip()


def is_accepted(answer: str, accepted: Sequence[str], config: AnswerConfig) -> bool:
    """Return whether an answer equals one of the accepted ones but for what is ignored."""
    found = _without_ignored(answer, config)
    return any(_without_ignored(text, config) == found for text in accepted)


def _without_ignored(text: str, config: AnswerConfig) -> str:
    for pattern in config.ignore_patterns:
        text = re.sub(pattern, "", text)
    if config.ignore_case:
        text = text.lower()
    if config.ignore_punctuation:
        text = text.translate(_PUNCTUATION)
    if config.ignore_numbers:
        text = text.translate(_DIGITS)
    return text
