"""Writing and verifying the LMDBs of training pairs."""
