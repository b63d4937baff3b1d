"""Goodput: what the time of a training run was spent on, over all its attempts.

Each attempt records in ``attempts.jsonl`` from which step it resumes and what the restart has cost.
"""

import json
import time
from pathlib import Path
from typing import Any

from lm.metrics.logger import read_jsonl

ATTEMPTS, METRICS = "attempts.jsonl", "metrics.jsonl"


def record_attempt(folder: Path, step: int, processes: int) -> None:
    """Record that an attempt, after ``step`` steps, is about to do its first step.

    Call it before the lines after ``step`` are removed from the log.
    """
    now = time.time()
    lines, earlier = read_jsonl(folder / METRICS), read_jsonl(folder / ATTEMPTS)
    attempt: dict[str, Any] = {"clock": now, "step": step, "processes": processes}
    attempt |= {"replayed_steps": 0, "replayed_seconds": 0.0, "restart_seconds": 0.0}
    if earlier:
        kept = [line for line in lines if line["step"] <= step]
        # The killed attempt's last sign of life, and the end of its work that was not lost.
        last_sign = max(earlier[-1]["clock"], lines[-1]["clock"] if lines else 0.0)
        last_kept = kept[-1]["clock"] if kept else earlier[0]["clock"]
        attempt["replayed_steps"] = max(0, lines[-1]["step"] - step) if lines else 0
        attempt["replayed_seconds"] = max(0.0, last_sign - max(last_kept, earlier[-1]["clock"]))
        attempt["restart_seconds"] = now - last_sign
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ATTEMPTS).open("a") as file:
        file.write(json.dumps(attempt) + "\n")


def summarize_goodput(folder: Path) -> dict[str, float]:
    """Return seconds by what they were spent on, and ``goodput``, the fraction spent on steps kept.

    Returns:
        ``restart_seconds``: between an attempt's last sign of life and the next one's first step,
        for whatever reason; ``replayed_seconds``: of steps that were done again;
        ``compile_seconds``, ``validation_seconds`` and ``checkpoint_seconds`` as logged (later
        attempts compile during ``restart_seconds``); ``goodput``.
    """
    lines, attempts = read_jsonl(folder / METRICS), read_jsonl(folder / ATTEMPTS)
    if not lines or not attempts:
        return {}
    # If the first attempt left no line, its compile time is unknown; a later one's is part of
    # `restart_seconds`, and the total is counted from the first attempt's first step.
    first_compiled = len(attempts) == 1 or lines[0]["clock"] <= attempts[1]["clock"]
    spent = {"compile_seconds": lines[0].get("compile_seconds", 0.0) if first_compiled else 0.0}
    for name in ("validation_seconds", "checkpoint_seconds"):
        spent[name] = sum(line.get(name, 0.0) for line in lines)
    for name in ("replayed_seconds", "restart_seconds"):
        spent[name] = sum(attempt[name] for attempt in attempts)
    end = max(lines[-1]["clock"], attempts[-1]["clock"])  # the last one may have had nothing to do
    total = end - attempts[0]["clock"] + spent["compile_seconds"]
    return {**spent, "goodput": max(0.0, 1 - sum(spent.values()) / total)}
