"""The cases of asyncjobs.testing.conformance.gates_terms on each store."""

from asyncjobs.testing.conformance.gates_terms import *
