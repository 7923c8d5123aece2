"""Limits that both type checkers refuse, on exactly the marked lines."""

from __future__ import annotations

from asyncjobs import Concurrency, Fair, RateLimit

Concurrency("5")  # error
Concurrency(5, by=5)  # error
Concurrency(5, strategy="wait")  # error
Concurrency(5, None, "queue")  # error
RateLimit(5)  # error
RateLimit("5/s", 20)  # error
RateLimit("5/s", burst="20")  # error
RateLimit("5/s", weight=1.5)  # error
Fair()  # error
Fair(by="tenant", weight="3")  # error
