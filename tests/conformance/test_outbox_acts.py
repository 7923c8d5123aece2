"""The cases of asyncjobs.testing.conformance.outbox_acts on each store."""

from asyncjobs.testing.conformance.outbox_acts import *
