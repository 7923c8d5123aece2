"""The cases of asyncjobs.testing.conformance.figures on each store."""

from asyncjobs.testing.conformance.figures import *
