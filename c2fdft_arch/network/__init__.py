"""What the network computes: the plain statement, its options and its parts."""
