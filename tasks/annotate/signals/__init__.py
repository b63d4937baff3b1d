"""Quality signals: one kernel per family, with a plain definition of each."""
