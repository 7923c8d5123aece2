"""The cases of asyncjobs.testing.conformance.listing on each store."""

from asyncjobs.testing.conformance.listing import *
