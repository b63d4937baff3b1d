"""What leaves the project: a Hugging Face folder with weights, tokenizer and model card."""
