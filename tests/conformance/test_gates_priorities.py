"""The cases of asyncjobs.testing.conformance.gates_priorities on each store."""

from asyncjobs.testing.conformance.gates_priorities import *
