"""Synthetic data: semantic roles from a grammar over frames, and a task that must be solved perfectly.

No labeled set of semantic roles is in any package. Sentences of a grammar show that the machinery of roles
works; they say nothing of how well a model would label text.
"""

import random
from collections.abc import Iterator, Mapping
from typing import Any

Row = Mapping[str, Any]

_PEOPLE = [
    "Mary",
    "the nurse",
    "a farmer",
    "our neighbor",
    "the old king",
    "Tom",
    "the young teacher",
]
_THINGS = ["a letter", "the red book", "some bread", "the boat", "a heavy box", "the broken clock"]
_PLACES = ["in the garden", "at the station", "on the bridge", "in a small town"]
_TIMES = ["yesterday", "last week", "in the morning", "every day"]
# verb -> its forms (active, passive participle), and the roles that it takes after it.
_FRAMES = [
    ("gave", "given", ("A1", "A2")),
    ("sent", "sent", ("A1", "A2")),
    ("sold", "sold", ("A1", "A2")),
    ("read", "read", ("A1",)),
    ("carried", "carried", ("A1",)),
    ("found", "found", ("A1",)),
    ("cleaned", "cleaned", ("A1",)),
]
_LETTERS = [a + b for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u")]


def iter_roles(n: int = 3000, seed: int = 1) -> Iterator[Row]:
    """Yield sentences with `words`, `tags` (BIO, PropBank's names of roles) and the `predicate`'s index."""
    rng = random.Random(seed)
    for _ in range(n):
        active, participle, roles = rng.choice(_FRAMES)
        agent, patient = rng.choice(_PEOPLE), rng.choice(_THINGS)
        receiver = rng.choice([name for name in _PEOPLE if name != agent])
        phrases: list[tuple[str, str]]
        if rng.random() < 0.5:
            phrases = [(agent, "A0"), (active, "V"), (patient, "A1")]
            if "A2" in roles:
                phrases.append((f"to {receiver}", "A2"))
        else:  # the agent stands behind a passive: a role does not follow from its place
            phrases = [(patient, "A1"), ("was", ""), (participle, "V")]
            if "A2" in roles:
                phrases.append((f"to {receiver}", "A2"))
            if rng.random() < 0.7:
                phrases.append((f"by {agent}", "A0"))
        if rng.random() < 0.5:
            phrases.append((rng.choice(_PLACES), "AM-LOC"))
        if rng.random() < 0.5:
            time = (rng.choice(_TIMES), "AM-TMP")
            phrases.insert(0, time) if rng.random() < 0.5 else phrases.append(time)
        yield _tag_phrases(phrases)


def _tag_phrases(phrases: list[tuple[str, str]]) -> Row:
    words: list[str] = []
    tags: list[str] = []
    predicate = 0
    for text, role in phrases:
        parts = text.split()
        if role == "V":
            predicate = len(words)
        words.extend(parts)
        tags.extend(
            [f"B-{role}", *[f"I-{role}"] * (len(parts) - 1)] if role else ["O"] * len(parts)
        )
    return {"words": [*words, "."], "tags": [*tags, "O"], "predicate": predicate}


def iter_reversals(n: int = 6000, seed: int = 1) -> Iterator[Row]:
    """Yield `source`, three to six short words, and `target`, the same words in reverse order."""
    rng = random.Random(seed)
    for _ in range(n):
        words = rng.choices(_LETTERS, k=rng.randint(3, 6))
        yield {"source": " ".join(words), "target": " ".join(reversed(words))}
