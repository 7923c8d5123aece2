"""The cases of asyncjobs.testing.conformance.barriers on each store."""

from asyncjobs.testing.conformance.barriers import *
