"""What tests, examples and benchmarks of asyncjobs programs start from."""
