"""The cases of asyncjobs.testing.conformance.finished on each store."""

from asyncjobs.testing.conformance.finished import *
