"""The cases of asyncjobs.testing.conformance.ask on each store."""

from asyncjobs.testing.conformance.ask import *
