"""The stage `release`: a Hugging Face folder with weights, tokenizer and model card."""
