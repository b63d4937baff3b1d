"""What people look at: documents, histories, duplicates, removals, verification, the report."""
