"""The cases of asyncjobs.testing.conformance.limits on each store."""

from asyncjobs.testing.conformance.limits import *
