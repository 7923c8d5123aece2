"""The cases of asyncjobs.testing.conformance.exchange on each store."""

from asyncjobs.testing.conformance.exchange import *
