"""The cases of asyncjobs.testing.conformance.terms on each store."""

from asyncjobs.testing.conformance.terms import *
