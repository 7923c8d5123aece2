"""Helps to test programs that use asyncjobs."""
