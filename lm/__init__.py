"""Language models and their training as a library: it knows no stage and no Prefect."""
