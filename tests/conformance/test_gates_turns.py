"""The cases of asyncjobs.testing.conformance.gates_turns on each store."""

from asyncjobs.testing.conformance.gates_turns import *
