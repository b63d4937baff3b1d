"""ONNX: a released model for onnxruntime, in fp32, and with weights and products of matrices in int8."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from infra.compute.arrays import F64
from infra.errors import UserError
from infra.statistics.comparison import compare_paired
from lm.models.hf_auto import load_model
from lm.models.transformers_lock import TRANSFORMERS_LOCK
from tasks.release.export import ParityError, TrainedModel

FILE, INT8_FILE = "model.onnx", "model.int8.onnx"
WEIGHTS_FILE = "model.safetensors"
TOLERANCE = 1e-3  # of a log-probability, in nats
MAX_BYTES = 1_900_000_000  # a file of protobuf has less than 2 GiB
EXAMPLE_SHAPE = (
    2,
    9,
)  # any batch of at least two rows and tokens: sizes of 1 would become constants


class _Logits(nn.Module):
    """The model as a function of token ids alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return logits[B, T, V] of input_ids[B, T]."""
        logits: Tensor = self.model(input_ids=input_ids, use_cache=False).logits
        return logits


def write_onnx(folder: Path) -> Path:
    """Write ``model.onnx`` of an exported folder: ``input_ids`` int64[batch, sequence] to ``logits``.

    Raises:
        UserError: if its weights do not fit into a file of protobuf.
    """
    import onnx

    size = (folder / WEIGHTS_FILE).stat().st_size
    if size > MAX_BYTES:
        raise UserError(
            f"release.formats: onnx, int8: {size / 1e9:.1f} GB of weights do not fit into an ONNX file, which has at "
            "most 2 GB; leave the format out"
        )
    path = folder / FILE
    with TRANSFORMERS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter, about its own code
        torch.onnx.export(
            _Logits(load_model(folder)),
            (torch.zeros(EXAMPLE_SHAPE, dtype=torch.int64),),
            path,
            input_names=["input_ids"],
            output_names=["logits"],
            dynamic_shapes={"input_ids": {0: "batch", 1: "sequence"}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    proto = onnx.load(path)
    _remove_metadata(proto)
    onnx.save(proto, path)
    return path


def _remove_metadata(proto: Any) -> None:
    """Remove what the exporter says of this machine: lines of its source files at every node."""
    for graph in (proto.graph, *proto.functions):
        graph.ClearField("metadata_props")
        for node in graph.node:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
    for value in (*proto.graph.value_info, *proto.graph.initializer, *proto.graph.input):
        value.ClearField("metadata_props")
    proto.ClearField("metadata_props")


def check_onnx(trained: TrainedModel, path: Path) -> float:
    """Return the largest difference of a log-probability from the trained model's, in onnxruntime.

    Raises:
        ParityError: if it is above the tolerance.
    """
    reference = trained.reference_logits
    logits = _run(_open(path), reference["tokens"].numpy())[0, reference["positions"].numpy()]
    expected = reference["logits"].double().log_softmax(-1)
    found = torch.from_numpy(logits).double().log_softmax(-1)
    difference = float((found - expected).abs().max())
    if not difference <= TOLERANCE:
        raise ParityError(
            f"release: a log-probability of {path.name} differs by {difference:.3g} in onnxruntime (tolerance "
            f"{TOLERANCE:g}); nothing was released"
        )
    return difference


def write_int8(path: Path) -> Path:
    """Write ``model.int8.onnx`` beside ``model.onnx``.

    Weights of products of matrices are int8, a scale for each column; the other factor is quantized when it is known,
    with a scale for each call (dynamic quantization). Embeddings and norms stay in fp32.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = path.with_name(INT8_FILE)
    quantize_dynamic(
        path,
        target,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    return target


def compare_int8(
    path: Path, int8_path: Path, documents: Sequence[tuple[Sequence[int], int]], eos: int
) -> dict[str, Any]:
    """Return bits per byte of both files on held-out text, and their difference with its 95 % interval.

    Args:
        path: ``model.onnx``.
        int8_path: ``model.int8.onnx``.
        documents: beginnings of held-out documents: their ids, not longer than the context, and the bytes of their text.
        eos: the id that precedes a document.
    """
    sizes = np.array([size for _, size in documents], np.float64)
    fp32, int8 = (_bits(_open(file), documents, eos) / sizes for file in (path, int8_path))
    names = [str(number) for number in range(len(documents))]
    difference = compare_paired(int8, fp32, sizes, names, seed=0)
    return {
        "bits_per_byte": float(np.average(int8, weights=sizes)),
        "bits_per_byte_fp32": float(np.average(fp32, weights=sizes)),
        "loss": difference.value,
        "loss_low": difference.low,
        "loss_high": difference.high,
        "documents": len(documents),
        "bytes": int8_path.stat().st_size,
        "bytes_fp32": path.stat().st_size,
    }


def _bits(session: Any, documents: Sequence[tuple[Sequence[int], int]], eos: int) -> F64:
    """Return the bits that each document takes."""
    bits = []
    for document, _ in documents:
        ids = np.array(document, np.int64)
        logits = torch.from_numpy(_run(session, np.concatenate([[eos], ids[:-1]])[None])[0])
        log_p = logits.double().log_softmax(-1)
        bits.append(-float(log_p[torch.arange(len(ids)), torch.from_numpy(ids)].sum()))
    return np.array(bits, np.float64) / math.log(2)


def _open(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One thread, as everywhere where equal results count.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _run(session: Any, ids: Any) -> Any:
    """Return float32 logits[B, T, V]."""
    return session.run(["logits"], {"input_ids": ids.reshape(-1, ids.shape[-1])})[0]
