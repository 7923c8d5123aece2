"""The cases of asyncjobs.testing.conformance.barriers_across on each store."""

from asyncjobs.testing.conformance.barriers_across import *
