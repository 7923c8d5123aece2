"""The cases of asyncjobs.testing.conformance.unique_latest on each store."""

from asyncjobs.testing.conformance.unique_latest import *
