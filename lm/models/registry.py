"""The families of models: a package of `lm.models` each, listed in one line each.

A family's package holds ``config`` (its entry of the recipe's `train` list), ``model`` (with
``build_model``) and ``hf`` (how it is exported). Architectures of a family have a package each. A family
that is counted, not trained in steps, has ``train`` (``spec`` and ``build`` of its data set) and ``export``
instead. They are imported by name, so that a stage's code version covers the one family that
it uses: the stage adds ``family_modules`` to its root modules.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, cast, get_type_hints

from pydantic import Tag, TypeAdapter

from infra.form_schema import ConditionalForm, key_discriminator
from lm.config.entry import DEFAULT_FAMILY
from lm.models.cnn.config import CNNEntry
from lm.models.decoder.config import DecoderEntry
from lm.models.encoder.config import EncoderEntry
from lm.models.glove.config import GloveEntry
from lm.models.gru.config import GRUEntry
from lm.models.lstm.config import LSTMEntry
from lm.models.ngram.config import NgramEntry
from lm.models.rnn.config import RNNEntry
from lm.models.seq2seq.config import Seq2SeqEntry
from lm.models.word2vec.config import Word2vecEntry

if TYPE_CHECKING:
    from lm.config.loop import LoopConfig
    from lm.models.neural_lm import ArchitectureConfig, NeuralLM

# Packages that are not below `lm.models` under their own name, which no family has.
_NESTED = {
    "llama": "decoder.llama",
    "gpt2": "decoder.gpt2",
    "bert": "encoder.bert",
    "modernbert": "encoder.modernbert",
    "t5": "seq2seq.t5",
}


# One entry of the recipe's `train`: what it may contain follows from its family.
AnyEntry = Annotated[
    Annotated[DecoderEntry, Tag("decoder")]
    | Annotated[RNNEntry, Tag("rnn")]
    | Annotated[LSTMEntry, Tag("lstm")]
    | Annotated[GRUEntry, Tag("gru")]
    | Annotated[CNNEntry, Tag("cnn")]
    | Annotated[EncoderEntry, Tag("encoder")]
    | Annotated[Seq2SeqEntry, Tag("seq2seq")]
    | Annotated[NgramEntry, Tag("ngram")]
    | Annotated[Word2vecEntry, Tag("word2vec")]
    | Annotated[GloveEntry, Tag("glove")],
    key_discriminator("family", DEFAULT_FAMILY),
    ConditionalForm("family", default=DEFAULT_FAMILY),
]
_ENTRY: TypeAdapter[AnyEntry] = TypeAdapter(AnyEntry)


def parse_entry(value: Any) -> AnyEntry:
    """Validate one entry of `train`, as a mapping."""
    return _ENTRY.validate_python(value)


def parse_job_config(value: Mapping[str, Any]) -> "LoopConfig":
    """Validate the configuration of a training job: an entry of `train`, or a fine-tuned model."""
    if "task" in value:
        finetuning = import_module("lm.config.finetune")
        return cast("LoopConfig", finetuning.FinetuneConfig.model_validate(value))
    return cast("LoopConfig", parse_entry(value))


def build_model(config: "ArchitectureConfig") -> "NeuralLM":
    """Return a model with fresh weights, drawn from torch's generator."""
    module = import_module(f"{_package(config.architecture)}.model")
    return cast("NeuralLM", module.build_model(config))


def config_class(name: str) -> Any:
    """Return the dataclass of the architecture's sizes: what a package's ``build_model`` takes."""
    build = import_module(f"{_package(name)}.model").build_model
    return get_type_hints(build)["config"]


def load_hf(name: str) -> Any:
    """Return a package's ``hf`` module; ``None`` if its models cannot be exported."""
    return next(map(import_module, hf_modules(name)), None)


def trained_package(config: Mapping[str, Any]) -> str:
    """Return the package of a model from the configuration in its manifest."""
    family, architecture = config.get("family"), config["model"].get("architecture")
    if architecture is None:
        return str(family)
    return str(architecture) if architecture in _NESTED else f"{family}.{architecture}"


def family_name(architecture: str) -> str:
    """Return the family of an architecture, as an entry of `train` names it."""
    return _NESTED.get(architecture, architecture).partition(".")[0]


def family_modules(name: str) -> tuple[str, ...]:
    """Return the modules that decide the weights of a package's models: roots of the train stage."""
    return (f"{_package(name)}.config", f"{_package(name)}.model")


def hf_modules(name: str) -> tuple[str, ...]:
    """Return the modules that decide how a package is exported: roots of the release stage."""
    module = f"{_package(name)}.hf"
    return (module,) if find_spec(module) else ()


def load_counting(name: str, module: str) -> Any:
    """Return a module of a package that is counted; ``None`` if it is trained by the loop."""
    return next(map(import_module, counting_modules(name, module)), None)


def counting_modules(name: str, module: str) -> tuple[str, ...]:
    """Return the dotted name of ``train`` or ``export`` of a package that is counted."""
    dotted = f"{_package(name)}.{module}"
    return (dotted,) if find_spec(dotted) else ()


def _package(name: str) -> str:
    return f"lm.models.{_NESTED.get(name, name)}"
