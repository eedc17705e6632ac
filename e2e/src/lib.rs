//! End-to-end tests on a real cluster, and the benchmark.
