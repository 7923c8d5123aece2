"""The cases of asyncjobs.testing.conformance.gates_revived on each store."""

from asyncjobs.testing.conformance.gates_revived import *
