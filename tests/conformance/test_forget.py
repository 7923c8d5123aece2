"""The cases of asyncjobs.testing.conformance.forget on each store."""

from asyncjobs.testing.conformance.forget import *
