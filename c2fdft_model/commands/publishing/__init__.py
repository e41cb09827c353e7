"""The commands that write weights for others: files, folders for a hub, and their cards."""
