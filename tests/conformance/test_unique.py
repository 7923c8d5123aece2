"""The cases of asyncjobs.testing.conformance.unique on each store."""

from asyncjobs.testing.conformance.unique import *
