"""The cases of asyncjobs.testing.conformance.wait on each store."""

from asyncjobs.testing.conformance.wait import *
