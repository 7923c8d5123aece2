"""The cases of asyncjobs.testing.conformance.gates on each store."""

from asyncjobs.testing.conformance.gates import *
