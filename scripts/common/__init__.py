"""What the benchmarks, the replication and the demo share."""
