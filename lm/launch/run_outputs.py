"""What a finished training run leaves to commit: its files and logs, and its speed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lm.launch.rollback import ROLLBACKS_FILE, TrainingRun, to_json
from lm.metrics.goodput import ATTEMPTS, summarize_goodput
from lm.metrics.logger import read_jsonl, tensorboard_file


def run_files(
    training_run: TrainingRun, names: Sequence[str]
) -> tuple[dict[str, Path], list[list[int]]]:
    """Return the files to commit, by their names in the data set, and the skipped batches.

    Args:
        training_run: has ended.
        names: the model's own files in its folder; the logs follow.
    """
    folder, rollbacks = training_run.job.folder, training_run.load_rollbacks()
    files = {name: folder / name for name in names}
    files["logs/metrics.jsonl"] = folder / "metrics.jsonl"
    files[f"logs/{ATTEMPTS}"] = folder / ATTEMPTS
    events = tensorboard_file(folder)
    files[f"logs/tensorboard/{events.name}"] = events
    for checkpoint in training_run.final_checkpoints():
        for path in checkpoint.iterdir():
            files[f"logs/{checkpoint.name}/{path.name}"] = path
    if not rollbacks:
        return files, []
    files[f"logs/{ROLLBACKS_FILE}"] = folder / ROLLBACKS_FILE
    files[f"logs/{ROLLBACKS_FILE}"].write_bytes(to_json(rollbacks))
    for rollback in rollbacks:
        files[f"logs/{rollback.folder}/metrics.jsonl"] = training_run.diverged_log(rollback)
    return files, [list(batches) for batches in rollbacks[-1].skip]


def speed_stats(result: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return statistics of a run that depend on the machine: speed, energy, time spent.

    Args:
        result: the launcher's.
        folder: of the run.
    """
    # The last checkpoint holds the whole log, and its last line once more if the log is lost.
    lines = read_jsonl(folder / "metrics.jsonl") or [result["line"]]
    speeds = sorted(line["tokens_per_second"] for line in lines)
    utilizations = sorted(line["mfu"] for line in lines)
    return {
        "tokens_per_second": speeds[len(speeds) // 2],
        "mfu": utilizations[len(utilizations) // 2],
        "training_flops": result["flops_per_token"] * result["line"]["tokens"],
        **{
            name: sum(line[name] for line in lines if name in line)
            for name in ("cpu_seconds", "cpu_joules", "gpu_joules")
            if any(name in line for line in lines)
        },
        **summarize_goodput(folder),
    }
