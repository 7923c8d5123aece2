"""The cases of asyncjobs.testing.conformance.purge on each store."""

from asyncjobs.testing.conformance.purge import *
