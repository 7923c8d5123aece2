"""The cases of asyncjobs.testing.conformance.inspect on each store."""

from asyncjobs.testing.conformance.inspect import *
