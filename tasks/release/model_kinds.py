"""What a model card says of a kind of model: how it is used, and what it does."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelKind:
    """The texts of one kind of model, by the class of transformers that loads it.

    Attributes:
        title: what it is.
        pipeline_tag: its task on the Hugging Face Hub.
        auto_class: the class of transformers that finds its class.
        usage: lines of Python, after the tokenizer and the model are loaded.
        input_note: how its input differs from plain text.
        output_note: what it does with the input.
        in_llama_cpp: whether llama.cpp may have models of this kind.
    """

    title: str
    pipeline_tag: str
    auto_class: str
    usage: tuple[str, ...]
    input_note: str
    output_note: str
    in_llama_cpp: bool = False


CAUSAL = ModelKind(
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
MASKED = ModelKind(
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


SEQ2SEQ = ModelKind(
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


def kind_of(hf_class: str) -> ModelKind:
    """Return the kind of model that a class of transformers, such as ``BertForMaskedLM``, is."""
    if hf_class.endswith("ForMaskedLM"):
        return MASKED
    return SEQ2SEQ if hf_class.endswith(("ForConditionalGeneration", "ForSeq2SeqLM")) else CAUSAL
