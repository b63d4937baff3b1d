"""The batched engine in torch: sequences of all families advance together, in a process of their own."""
