"""Small synthetic tasks that a working model solves perfectly, one per task."""

import random
from typing import Any

WORDS = "miller crow corn stone sea king clef name ground river bridge winter garden window".split()
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve thirteen".split()
LOOKUP = dict(zip(WORDS, NUMBERS, strict=True))


def planted(task: str, count: int = 160) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the rows of a task, and settings of its entry.

    classification: a cue decides; tagging: a word has a tag; qa: the answer follows a mark; seq2seq and
    chat: a word is looked up; completion: one sentence; embedding: the query's word is in its passage.
    """
    draw = random.Random(5)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        words = draw.sample(WORDS, 4)
        text = f"{' '.join(words)} {number}"
        match task:
            case "classification":
                cue = draw.choice(("good", "bad"))
                rows.append({"text": f"{number} {words[0]} {cue} {words[1]}", "label": cue})
            case "tagging":
                words = draw.choices(WORDS[:6], k=8)
                tags = ["B-LOC" if word in WORDS[:2] else "O" for word in words]
                rows.append({"words": words, "tags": tags})
            case "qa":
                answer, text = draw.choice(NUMBERS[:6]), " ".join(draw.choices(WORDS[:6], k=4))
                rows.append(
                    {
                        "question": "which",
                        "context": f"{text} @{answer} {' '.join(draw.sample(WORDS[:6], 2))}",
                        "answers": [{"text": answer, "answer_start": len(text) + 2}],
                    }
                )
            case "seq2seq":
                rows.append({"source": f"{words[0]} {number}", "target": LOOKUP[words[0]]})
            case "chat":
                turns = [("user", f"{words[0]} {number}"), ("assistant", LOOKUP[words[0]])]
                rows.append({"messages": [{"role": r, "content": c} for r, c in turns]})
            case "completion":
                rows.append({"text": f"{number}: {' '.join(WORDS[:6])}"})
            case _:
                rows.append({"query": f"{words[0]} {number}", "positive": f"{number} {words[0]} a"})
    return rows, {"data__near_duplicate_threshold": None}
