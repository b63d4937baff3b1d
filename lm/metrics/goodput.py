"""What a run's time went to, over all its attempts.

Each attempt notes in ``attempts.jsonl`` from which step it goes on and what getting there has cost.
"""

import json
import time
from pathlib import Path
from typing import Any

from lm.metrics.logger import read_jsonl

ATTEMPTS, METRICS = "attempts.jsonl", "metrics.jsonl"


def record_attempt(folder: Path, step: int, processes: int) -> None:
    """Note that the first step of an attempt is about to begin; call it before later lines go.

    Args:
        folder: of the run.
        step: steps done.
        processes: that go on.
    """
    now = time.time()
    lines, before = read_jsonl(folder / METRICS), read_jsonl(folder / ATTEMPTS)
    attempt: dict[str, Any] = {"clock": now, "step": step, "processes": processes}
    attempt |= {"redone_steps": 0, "redone_seconds": 0.0, "restart_seconds": 0.0}
    if before:
        kept = [line for line in lines if line["step"] <= step]
        # What was known of the killed attempt at last, and where its work that counts had ended.
        last = max(before[-1]["clock"], lines[-1]["clock"] if lines else 0.0)
        counts = kept[-1]["clock"] if kept else before[0]["clock"]
        attempt["redone_steps"] = max(0, lines[-1]["step"] - step) if lines else 0
        attempt["redone_seconds"] = max(0.0, last - max(counts, before[-1]["clock"]))
        attempt["restart_seconds"] = now - last
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ATTEMPTS).open("a") as file:
        file.write(json.dumps(attempt) + "\n")


def summarize_goodput(folder: Path) -> dict[str, float]:
    """Seconds by what they went to, and ``goodput``: the share of all that went into the model.

    Returns:
        ``restart_seconds``: between an attempt's last sign and the next one's first step,
        whatever kept it; ``redone_seconds``: of steps that were done again; ``compile_seconds``,
        ``validation_seconds`` and ``checkpoint_seconds`` as the log has them (compilation of later
        attempts is part of ``restart_seconds``); ``goodput``.
    """
    lines, attempts = read_jsonl(folder / METRICS), read_jsonl(folder / ATTEMPTS)
    if not lines or not attempts:
        return {}
    # What a later attempt compiled is part of its `restart_seconds`: if the first one left no line,
    # nobody knows how long it compiled, and the whole is counted from its first step.
    of_first = len(attempts) == 1 or lines[0]["clock"] <= attempts[1]["clock"]
    found = {
        "compile_seconds": float(lines[0].get("compile_seconds", 0.0)) if of_first else 0.0,
        **{
            f"{name}_seconds": sum(float(line.get(f"{name}_seconds", 0.0)) for line in lines)
            for name in ("validation", "checkpoint")
        },
        **{
            f"{name}_seconds": sum(float(attempt[f"{name}_seconds"]) for attempt in attempts)
            for name in ("redone", "restart")
        },
    }
    end = max(lines[-1]["clock"], attempts[-1]["clock"])  # the last may have found nothing to do
    whole = end - attempts[0]["clock"] + found["compile_seconds"]
    return {**found, "goodput": max(0.0, 1 - sum(found.values()) / whole)}
