"""The cases of asyncjobs.testing.conformance.graces on each store."""

from asyncjobs.testing.conformance.graces import *
