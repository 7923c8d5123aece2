"""The cases of asyncjobs.testing.conformance.changes on each store."""

from asyncjobs.testing.conformance.changes import *
