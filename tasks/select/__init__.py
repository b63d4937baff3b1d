"""Selection: the recipe's thresholds over annotations and duplicate labels give the corpus."""
