"""The cases of asyncjobs.testing.conformance.planned_ends on each store."""

from asyncjobs.testing.conformance.planned_ends import *
