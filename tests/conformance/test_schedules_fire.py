"""The cases of asyncjobs.testing.conformance.schedules_fire on each store."""

from asyncjobs.testing.conformance.schedules_fire import *
