"""What the benchmarks, the comparison, the replication and the demo share."""
