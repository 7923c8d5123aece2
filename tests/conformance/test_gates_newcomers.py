"""The cases of asyncjobs.testing.conformance.gates_newcomers on each store."""

from asyncjobs.testing.conformance.gates_newcomers import *
