"""The cases of asyncjobs.testing.conformance.bad_queue_enqueue on each store."""

from asyncjobs.testing.conformance.bad_queue_enqueue import *
