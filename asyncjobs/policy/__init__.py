"""Decides, purely and synchronously. A policy is tested with values alone."""
