"""The cases of asyncjobs.testing.conformance.survey on each store."""

from asyncjobs.testing.conformance.survey import *
