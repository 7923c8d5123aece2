"""The cases of asyncjobs.testing.conformance.notes on each store."""

from asyncjobs.testing.conformance.notes import *
