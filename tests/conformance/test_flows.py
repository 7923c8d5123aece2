"""The cases of asyncjobs.testing.conformance.flows on each store."""

from asyncjobs.testing.conformance.flows import *
