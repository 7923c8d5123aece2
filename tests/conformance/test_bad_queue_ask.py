"""The cases of asyncjobs.testing.conformance.bad_queue_ask on each store."""

from asyncjobs.testing.conformance.bad_queue_ask import *
