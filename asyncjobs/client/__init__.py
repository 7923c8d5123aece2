"""Sends new jobs to the store. Concurrent enqueues share a batch."""

from asyncjobs.client.client import Client

__all__ = ["Client"]
