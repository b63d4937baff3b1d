"""A text whose words have a meaning that vectors must find: analogies and similarities that are planted.

There are ``ENTITIES`` things with a word per role: the capital of a country, its language and so on. A sentence is
about one word: it holds the word, topic words of its thing, and topic words of its role.
"""

import numpy as np

from lm.models.embedding.files import WordVectors
from tasks.evaluate.cosines import to_unit_rows
from tasks.evaluate.word_vectors import UnitVectors, spearman

ENTITIES, ROLES = 12, 4
TOPIC_WORDS, ROLE_WORDS = 6, 8
SENTENCE_WORDS = 8
VOCABULARY = ENTITIES * (ROLES + TOPIC_WORDS) + ROLES * ROLE_WORDS


def word(entity: int, role: int) -> str:
    """The word of a thing in a role."""
    return f"word{entity:02d}role{role}"


def documents(sentences: int, seed: int = 0, noise: float = 0) -> list[str]:
    """Documents of 20 sentences each; a fraction ``noise`` of the words around are any words."""
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(sentences):
        entity, role = int(rng.integers(ENTITIES)), int(rng.integers(ROLES))
        topics = [
            f"topic{entity:02d}n{rng.integers(TOPIC_WORDS)}" for _ in range(SENTENCE_WORDS // 2)
        ]
        roles = [f"about{role}n{rng.integers(ROLE_WORDS)}" for _ in range(SENTENCE_WORDS // 2)]
        sentence = [
            f"any{int(rng.zipf(1.5)) % 500}" if rng.random() < noise else item
            for item in [*topics, *roles]
        ]
        rng.shuffle(sentence)
        middle = SENTENCE_WORDS // 2
        result.append(" ".join([*sentence[:middle], word(entity, role), *sentence[middle:]]) + ".")
    return ["\n".join(result[first : first + 20]) for first in range(0, len(result), 20)]


def analogies() -> list[tuple[str, str, str, str]]:
    """Questions ``a is to b as c is to d``: other things in the same two roles."""
    return [
        (word(a, left), word(a, right), word(b, left), word(b, right))
        for left in range(ROLES)
        for right in range(ROLES)
        for a in range(ENTITIES)
        for b in range(0, ENTITIES, 3)
        if left != right and a != b
    ]


def similarities() -> list[tuple[str, str, float]]:
    """Pairs of words with 2 if they share the thing, 1 if they share the role, else 0."""
    words = [(entity, role) for entity in range(ENTITIES) for role in range(ROLES)]
    return [
        (word(*a), word(*b), 2.0 * (a[0] == b[0]) + (a[1] == b[1]))
        for number, a in enumerate(words)
        for b in words[:number:5]
    ]


def evaluate(model: WordVectors) -> tuple[float, float]:
    """Accuracy on the analogies, and rank correlation with the similarities."""
    unit = UnitVectors(model)
    questions = [[model.index[item] for item in question] for question in analogies()]
    a, b, c = (unit.array[[item[k] for item in questions]] for k in range(3))
    answers = unit.nearest(to_unit_rows(b - a + c), [item[:3] for item in questions], 1)
    right = sum(found[0][0] == item[3] for found, item in zip(answers, questions, strict=True))
    gold = [score for _, _, score in similarities()]
    ours = [
        float(unit.array[model.index[x]] @ unit.array[model.index[y]]) for x, y, _ in similarities()
    ]
    return right / len(questions), spearman(gold, ours) or 0.0
