"""Sends jobs to the store: many concurrent enqueues, one batch at a time."""

from asyncjobs.client.client import Client

__all__ = ["Client"]
