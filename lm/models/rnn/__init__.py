"""The simple recurrent network (Elman 1990)."""
