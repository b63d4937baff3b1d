from pathlib import Path

import pytest
import torch

from lm.metrics import meter
from lm.models.registry import build_model
from tests.lm.corpora import tiny


def test_the_step_duration_excludes_what_is_timed_separately(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(meter, "measure_matmul_flops", lambda *_: 1e9)
    monkeypatch.setattr("lm.metrics.meter.time.perf_counter", lambda: now[0])
    model = build_model(tiny().model.resolve(300))
    metrics = meter.TrainingMetrics(model, torch.device("cpu"), torch.float32)
    for name, seconds in (("compile", 20.0), ("resume", 300.0), ("data_wait", 1.0)):
        with metrics.timed(name):
            now[0] += seconds
    for _ in range(2):
        now[0] += 0.5
        metrics.add(torch.tensor(8.0), torch.tensor(2), torch.tensor(3))
        metrics.end_step(torch.tensor(1.0))
    values, _ = metrics.read()
    assert metrics.step_seconds == pytest.approx(1.0)
    assert values["compile_seconds"] == 20.0
    assert "resume_seconds" not in values
