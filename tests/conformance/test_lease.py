"""The cases of asyncjobs.testing.conformance.lease on each store."""

from asyncjobs.testing.conformance.lease import *
