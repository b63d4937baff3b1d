"""Selection: the recipe's thresholds over annotations and duplicate marks give the corpus."""
