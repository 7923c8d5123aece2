"""The cases of asyncjobs.testing.conformance.pauses on each store."""

from asyncjobs.testing.conformance.pauses import *
