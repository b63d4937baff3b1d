"""The stage `index`: where every run of tokens of the training data stands."""
