"""The cases of asyncjobs.testing.conformance.gates_recovery on each store."""

from asyncjobs.testing.conformance.gates_recovery import *
