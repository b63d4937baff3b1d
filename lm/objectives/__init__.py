"""Objectives: from rows of tokens to what a model reads and what it is to predict."""
