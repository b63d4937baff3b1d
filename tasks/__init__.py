"""The stages of the road from pages to a released model, one folder each."""
