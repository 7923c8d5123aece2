"""The cases of asyncjobs.testing.conformance.clock_steps on each store."""

from asyncjobs.testing.conformance.clock_steps import *
