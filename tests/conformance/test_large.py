"""The cases of asyncjobs.testing.conformance.large on each store."""

from asyncjobs.testing.conformance.large import *
