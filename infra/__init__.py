"""What the stages stand on: storage, data sets, the ledger, the cluster."""
