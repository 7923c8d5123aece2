"""The cases of asyncjobs.testing.conformance.control on each store."""

from asyncjobs.testing.conformance.control import *
