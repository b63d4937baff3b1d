"""Every task, from a file of examples to the scores of the released model: all is solved perfectly."""

from pathlib import Path
from typing import Any

import pytest

from infra.dataset.model_folder import model_folder
from infra.schemas.metrics import read_items, read_metrics
from tests.finetune.cards import answer_greedily, run_card
from tests.finetune.planted_tasks import planted
from tests.finetune.tiny_runs import ENCODER, TinyStore, entry, variant, write_jsonl

SEQ2SEQ = {"family": "seq2seq", "architecture": "t5", "num_kv_heads": None}
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any], str, float]] = {
    # task: its base, further settings, a metric and the value that it must reach
    "classification": (ENCODER, {"optim__epochs": 10}, "accuracy", 1.0),
    "tagging": (ENCODER, {"optim__epochs": 15}, "f1", 1.0),
    "qa": (ENCODER, {"optim__epochs": 40}, "exact_match", 1.0),
    "seq2seq": (SEQ2SEQ, {"optim__epochs": 45, "max_new_tokens": 8}, "exact_match", 1.0),
    "chat": ({}, {"optim__epochs": 20}, "perplexity", 1.1),
    # Ends of turns are new tokens, which are trained although the base is frozen.
    "chat with LoRA": ({}, {"optim__epochs": 40, "model__lora": {"rank": 16}}, "perplexity", 1.3),
    "completion": ({}, {"optim__epochs": 10}, "bits_per_byte", 1.0),
    "embedding": (ENCODER, {"optim__epochs": 10}, "recall@1", 0.9),
}
LOWER_IS_BETTER = ("perplexity", "bits_per_byte")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TinyStore:
    return TinyStore(tmp_path_factory.mktemp("gates"))


@pytest.mark.usefixtures("in_process")
# Words that are divided by spaces are what the pipeline falls back to, and what was trained on.
@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("case", SETTINGS)
def test_a_planted_task_is_solved(
    case: str, store: TinyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, settings, metric, wanted = SETTINGS[case]
    task = case.split(maxsplit=1)[0]
    rows, own = planted(task, count=320 if task == "qa" else 160)
    path = write_jsonl(tmp_path / "data.jsonl", rows)
    item = entry(
        task,
        path,
        name=case.replace(" ", "-"),
        optim__dropout=0.0,
        **{"data__format": "jsonl", **own, **settings},
    )
    examples = store.prepare(item)
    assert examples.counts.kept == len(rows)
    model = store.finetune(variant(item), examples, store.base(**base))
    export = store.release(model)
    scores = store.score(variant(item), export, examples)
    value = scores.stats["systems"]["model"][metric]["value"]
    assert value <= wanted if metric in LOWER_IS_BETTER else value >= wanted
    # What is published: the same value, and that of each example.
    published = {row["name"]: row["value"] for row in read_metrics(scores).to_pylist()}
    assert published[f"suite.test.{metric}"] == pytest.approx(value, abs=1e-6)
    assert len(read_items(scores)) >= scores.stats["n"] * (task != "embedding")
    shown = scores.stats["interpretation"]
    assert shown["id"] in set(examples.table()["id"].to_pylist())
    assert len(shown["tokens"]) == len(shown["points"]) == len(shown["neighbors"])
    assert bool(shown["attributions"]) == (task not in ("tagging", "qa", "embedding"))
    for explained in scores.stats.get("explanations", ()):
        assert len(explained["tokens"]) == len(explained["scores"])
        assert abs(explained["delta"]) < 0.1 + 0.1 * abs(explained["total"])
    assert ("explanations" in scores.stats) == (task == "classification")
    # What the card says that a reader should run, with an example in place of the card's.
    monkeypatch.chdir(model_folder(export))
    match task:
        case "classification":
            ((found,),) = run_card({"some text": rows[0]["text"]})["printed"]
            assert found["label"] == rows[0]["label"]
        case "tagging":
            (spans,) = run_card({"words that are divided by spaces": " ".join(rows[0]["words"])})[
                "printed"
            ]
            words = [word for span in spans for word in span["word"].split()]
            tags = zip(rows[0]["words"], rows[0]["tags"], strict=True)
            assert words == [word for word, tag in tags if tag != "O"]
        case "qa":
            passage = {"the question": "which", "the passage": rows[0]["context"]}
            assert run_card(passage)["printed"][0].strip() == rows[0]["answers"][0]["text"]
        case "seq2seq":
            written = run_card({"the source": rows[0]["source"]})["printed"][0]
            assert written.strip() == rows[0]["target"]
        case "chat":
            question, answer = rows[0]["messages"]
            chat = run_card({"Hello": question["content"]})["chat"]
            # The pipeline draws its answers unless it is told not to.
            (found,) = chat([question], max_new_tokens=8, do_sample=False)
            said = found["generated_text"][-1]
            assert said == {"role": "assistant", "content": answer_greedily(model, question, 8)}
            if case == "chat":
                assert said["content"] == answer["content"]
        case "completion":
            (written,) = run_card({})["printed"]
            assert "<fim_middle>" in written
