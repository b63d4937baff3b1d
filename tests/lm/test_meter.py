from pathlib import Path

import pytest
import torch

from lm.metrics import meter
from lm.models.registry import build_model
from tests.lm.corpora import tiny


def test_a_step_takes_what_nothing_else_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(meter, "measure_matmul_flops", lambda *_: 1e9)
    monkeypatch.setattr("lm.metrics.meter.time.perf_counter", lambda: now[0])
    model = build_model(tiny().model.resolve(300))
    found = meter.TrainingMetrics(model, torch.device("cpu"), torch.float32)
    for what, seconds in (("compile", 20.0), ("resume", 300.0), ("data_wait", 1.0)):
        with found.timed(what):
            now[0] += seconds
    for _ in range(2):
        now[0] += 0.5
        found.add(torch.tensor(8.0), torch.tensor(2))
        found.end_step(torch.tensor(1.0))
    figures, _ = found.read()
    assert found.step_seconds == pytest.approx(1.0)
    assert figures["compile_seconds"] == 20.0
    assert "resume_seconds" not in figures
