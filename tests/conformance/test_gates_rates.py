"""The cases of asyncjobs.testing.conformance.gates_rates on each store."""

from asyncjobs.testing.conformance.gates_rates import *
