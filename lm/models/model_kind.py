"""The kinds of models: what a released one gives, by which it is evaluated and described.

A family's module ``hf`` or ``export`` has one as its ``KIND``; ``release`` records its name, and
``evaluate`` has a scorer for each name.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelKind:
    """A kind of model.

    Attributes:
        name: in the statistics of a release.
        pipeline_tag: its task on the Hugging Face Hub.
    """

    name: str
    pipeline_tag: str


@dataclass(frozen=True)
class HFModelKind(ModelKind):
    """A kind of model that transformers load, and what its model card says.

    Attributes:
        title: what it is.
        auto_class: the class of transformers that finds its class.
        usage: lines of Python, after the tokenizer and the model are loaded.
        input_note: how its input differs from plain text.
        output_note: what it does with the input.
        in_llama_cpp: whether llama.cpp may have models of this kind.
    """

    title: str
    auto_class: str
    usage: tuple[str, ...]
    input_note: str
    output_note: str
    in_llama_cpp: bool = False


CAUSAL = HFModelKind(
    name="causal",
    title="A causal language model",
    pipeline_tag="text-generation",
    auto_class="AutoModelForCausalLM",
    usage=(
        'prompt = tokenizer(tokenizer.bos_token + "Once", return_tensors="pt")',
        "print(tokenizer.decode(model.generate(**prompt, max_new_tokens=40)[0]))",
    ),
    input_note=(
        "Every document of the training data began after the end-of-text token, which the tokenizer does "
        "not add: put it before a text that starts a document."
    ),
    output_note="It continues text.",
    in_llama_cpp=True,
)
MASKED = HFModelKind(
    name="masked",
    title="A masked language model",
    pipeline_tag="fill-mask",
    auto_class="AutoModelForMaskedLM",
    usage=(
        'text = "Once upon a" + tokenizer.mask_token + tokenizer.eos_token',
        'inputs = tokenizer(text, return_tensors="pt")',
        "logits = model(**inputs).logits[inputs.input_ids == tokenizer.mask_token_id]",
        "print(tokenizer.decode(logits.argmax(-1)))",
    ),
    input_note=(
        "Every document of the training data ended with the end-of-text token, which the tokenizer does not "
        "add. The mask token stands for one token, and is the model's last id: the tokenizer of the "
        "training data did not have it."
    ),
    output_note="It predicts masked tokens and represents text; it does not continue text.",
)
SEQ2SEQ = HFModelKind(
    name="seq2seq",
    title="An encoder-decoder",
    pipeline_tag="text2text-generation",
    auto_class="AutoModelForSeq2SeqLM",
    usage=(
        'text = tokenizer.eos_token + "Once upon<extra_id_0>" + tokenizer.eos_token',
        'source = tokenizer(text, return_tensors="pt")',
        "print(tokenizer.decode(model.generate(**source, max_new_tokens=20)[0]))",
    ),
    input_note=(
        "The tokens `<extra_id_0>`, `<extra_id_1>` and so on stand for spans of text, as T5 has them; they "
        "are the model's last ids, and the tokenizer of the training data did not have them. The input "
        "ends with the end-of-text token, which the tokenizer does not add."
    ),
    output_note="It restores spans that are left out, and so continues text.",
)
COUNTS = ModelKind("counts", "text-generation")
VECTORS = ModelKind("vectors", "feature-extraction")
