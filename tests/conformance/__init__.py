"""Our own stores in asyncjobs.testing.conformance: each case on memory, Valkey and Redis.

The cases are in asyncjobs/testing/conformance/; here a file for each of their modules runs
them, and what is true of one store alone is a test in tests/conformance/test_memory_only.py or
tests/redis/.
"""
