"""The cases of asyncjobs.testing.conformance.outbox on each store."""

from asyncjobs.testing.conformance.outbox import *
