"""The cases of asyncjobs.testing.conformance.schedules_unique on each store."""

from asyncjobs.testing.conformance.schedules_unique import *
