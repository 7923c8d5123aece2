"""The cases of asyncjobs.testing.conformance.bad_queue on each store."""

from asyncjobs.testing.conformance.bad_queue import *
