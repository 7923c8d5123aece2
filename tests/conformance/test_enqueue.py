"""The cases of asyncjobs.testing.conformance.enqueue on each store."""

from asyncjobs.testing.conformance.enqueue import *
