"""The cases of asyncjobs.testing.conformance.orders on each store."""

from asyncjobs.testing.conformance.orders import *
