"""Extract: web pages to documents. One data set per source of pages."""
