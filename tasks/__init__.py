"""The stages of the pipeline, from acquired pages to a released model, one folder each."""
