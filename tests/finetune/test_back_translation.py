"""Sources that a model of the other direction writes for the targets of training examples."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.schemas.examples import AUGMENTED_FILE, example_schema
from tasks.finetune import back_translation
from tasks.finetune.back_translation import SUFFIX, translate_back
from tasks.finetune.config import Seq2SeqTaskEntry
from tasks.finetune.selection import Selection
from tests.finetune.tiny_runs import TinyStore, entry, variant, write_jsonl

SEQ2SEQ = {"family": "seq2seq", "architecture": "t5", "num_kv_heads": None}


def selection(**sources: list[str]) -> Selection:
    tables = {
        split: pa.Table.from_pylist(
            [
                {"id": f"{split}{number}", "split": split, "source": text, "target": f"to {text}"}
                for number, text in enumerate(sources.get(split, []))
            ],
            schema=example_schema("seq2seq"),
        )
        for split in ("train", "validation", "test")
    }
    return Selection(tables["train"], tables["validation"], tables["test"], 0)


def test_pairs_are_new_and_none_repeats_a_held_out_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = ["a wide river", "", "The Bridge", "a  tested sentence of some length!", "known"]
    monkeypatch.setattr(back_translation, "write_targets", lambda *_: written)
    item = entry("seq2seq", tmp_path)
    assert isinstance(item, Seq2SeqTaskEntry)
    made = translate_back(
        tmp_path,
        item,
        item,
        selection(
            train=["one", "two", "three", "four", "known"],
            validation=["the bridge"],
            test=["a tested sentence of some length"],
        ),
        1,
    )
    assert made.pairs["id"].to_pylist() == [f"train0{SUFFIX}"]
    assert made.pairs["source"].to_pylist() == ["a wide river"]
    assert made.pairs["target"].to_pylist() == ["to one"]
    assert sum(made.counts.values()) == 5
    assert made.counts["kept"] == made.counts["empty"] == made.counts["known_source"] == 1


@pytest.mark.usefixtures("in_process")
def test_a_translated_training_set_is_stored_and_counted(tmp_path: Path) -> None:
    store = TinyStore(tmp_path)
    there = [{"source": f"corn {i} crow", "target": f"miller {i}"} for i in range(30)]
    back = [{"source": row["target"], "target": row["source"]} for row in there]
    base = store.base(**SEQ2SEQ)
    data = write_jsonl(tmp_path / "back.jsonl", back)
    first = entry("seq2seq", data, name="back", max_new_tokens=4, optim__epochs=1)
    release = store.release(store.finetune(variant(first), store.prepare(first), base))
    path = write_jsonl(tmp_path / "there.jsonl", there)
    item = entry(
        "seq2seq",
        path,
        max_new_tokens=4,
        optim__epochs=1,
        augment={"back_translation": {"model": "back"}},
    )
    examples = store.prepare(item)
    model = store.finetune(variant(item), examples, base, (first, release))
    rows = pq.read_table(io.BytesIO(model.read(AUGMENTED_FILE)))
    counts = model.stats["back_translation"]
    assert counts.get("kept", 0) == rows.num_rows == model.stats["examples"]["copies"]
    assert sum(counts.values()) == model.stats["examples"]["train"]
    ids = set(examples.table()["id"].to_pylist())
    assert {name.removesuffix(SUFFIX) for name in rows["id"].to_pylist()} <= ids
