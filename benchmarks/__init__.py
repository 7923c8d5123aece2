"""What asyncjobs costs, measured on this machine: run with `python -m benchmarks.<name>`."""
