"""The cases of asyncjobs.testing.conformance.effects on each store."""

from asyncjobs.testing.conformance.effects import *
