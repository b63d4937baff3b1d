"""What a removal takes, which models were trained on it, and where its text still lies."""
