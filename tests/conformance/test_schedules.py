"""The cases of asyncjobs.testing.conformance.schedules on each store."""

from asyncjobs.testing.conformance.schedules import *
