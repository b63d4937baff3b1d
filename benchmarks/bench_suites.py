"""Score suites by Gristmill and by lm-evaluation-harness itself: the same figures.

    python -m examples.suites
    python -m benchmarks.bench_suites

A small decoder is trained on the tests' own language and exported as ``release`` does. Both score the first items of suites
that ship, in fp32; those with an answer longer than the context, which lm-eval refuses, are left out. Contexts that have to be
truncated are among them. Exits with 1 if a log-likelihood differs by more than 1e-4 nats and by more than 2e-6 of its value,
which is what lm-eval's sums in fp32 allow, or if an accuracy differs at all.
"""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from tokenizers import Tokenizer

from benchmarks.bench_train_evaluator import LM_EVAL, TOLERANCE, export_model
from benchmarks.train_peers import SCRIPTS, NotMeasured, peer_interpreter, run_json
from examples.suites.suites import prepare_suites
from lm.scoring.huggingface import HuggingFaceModel
from tasks.suites.items import Suite, load_suite
from tasks.suites.prompts import make_prompts
from tasks.suites.score import ScoredItem, score_items
from tests.lm.corpora import token_shards

SUITES = ("hellaswag", "arc_easy", "piqa", "lambada", "humaneval", "squad")
ITEMS, EOS = 40, 0
RELATIVE = 2e-6  # lm-eval adds up in fp32
CONTEXT = 128  # tokens, of the model


def write_task(suite: Suite, items: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write the task of lm-eval that is this suite, with a YAML file as its users write it."""
    data = folder / f"{suite.name}.jsonl"
    data.write_text("\n".join(json.dumps(item) for item in items))
    task: dict[str, Any] = {
        "task": suite.name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"validation": str(data)}},
        "validation_split": "validation",
        "doc_to_text": "{{context}}",
        "target_delimiter": suite.config.delimiter,
    }
    if suite.config.type == "multiple_choice":
        task |= {
            "output_type": "multiple_choice",
            "doc_to_choice": "choices",
            "doc_to_target": "gold",
        }
        metrics = ["acc", "acc_norm"]
    else:
        task |= {"output_type": "loglikelihood", "doc_to_target": "{{answer}}"}
        metrics = ["acc"]
    task["metric_list"] = [
        {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in metrics
    ]
    (folder / f"{suite.name}.yaml").write_text(yaml.safe_dump(task))


def compare(suite: Suite, ours: Sequence[ScoredItem], theirs: dict[str, Any]) -> bool:
    """Print how far both agree; return whether that is enough."""
    pairs = [
        (nats, -other)
        for item in ours
        for nats, other in zip(item.row["nats"], theirs["items"][item.row["item"]], strict=True)
    ]
    worst = max(abs(a - b) for a, b in pairs)
    relative = max(abs(a - b) / b for a, b in pairs)
    accuracy = sum(item.metrics["accuracy"][0] for item in ours) / len(ours)
    other = float(theirs["metrics"]["acc,none"])
    print(
        f"{suite.name:12} {len(ours):4} items: log-likelihoods of {min(b for _, b in pairs):.0f} to "
        f"{max(b for _, b in pairs):.0f} nats differ by at most {worst:.1e}, {relative:.1e} of it; accuracy "
        f"{accuracy:.4f} and {other:.4f}",
        flush=True,
    )
    close = all(abs(a - b) <= max(TOLERANCE, RELATIVE * b) for a, b in pairs)
    return close and abs(accuracy - other) < 1e-9


def main() -> int:
    """Run the comparison; return the exit status."""
    shipped, _ = prepare_suites()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = export_model(token_shards(folder / "store"), "llama", folder)
        tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        tasks = folder / "tasks"
        tasks.mkdir()
        scored = {}
        for title in SUITES:
            suite = load_suite(str(shipped / f"{title}.yaml"), title)
            pairs = [
                (item, prompt)
                for item, prompt in zip(suite.items, make_prompts(suite), strict=True)
                if all(
                    len(tokenizer.encode(suite.config.delimiter + text).ids) < CONTEXT
                    for text in item.choices
                )
            ][:ITEMS]
            items, prompts = [item for item, _ in pairs], [prompt for _, prompt in pairs]
            rows = [
                {"id": item.id, "context": item.context, "choices": list(item.choices)}
                # Of a single continuation lm-eval takes the delimiter from the target.
                | {"gold": item.gold, "answer": suite.config.delimiter + item.answer}
                for item in items
            ]
            write_task(suite, rows, tasks)
            start = time.process_time()
            ours = score_items(
                suite.config, items, prompts, HuggingFaceModel(model, EOS), tokenizer, EOS
            )
            scored[title] = suite, ours
            print(f"{title:12} scored in {time.process_time() - start:.1f} CPU s", flush=True)
        try:
            python = peer_interpreter(LM_EVAL)
        except NotMeasured as reason:
            print(f"lm-eval was not run: {reason}")
            return 1
        script = SCRIPTS / "suites_lm_eval.py"
        theirs: dict[str, Any] = run_json([str(python), str(script), str(model), str(tasks)], 1)
        print(f"lm-eval {theirs['version']}")
        agree = [compare(*scored[title], theirs[title]) for title in SUITES]
        return 0 if all(agree) else 1


if __name__ == "__main__":
    sys.exit(main())
