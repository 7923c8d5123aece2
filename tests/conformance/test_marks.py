"""The cases of asyncjobs.testing.conformance.marks on each store."""

from asyncjobs.testing.conformance.marks import *
