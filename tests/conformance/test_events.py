"""The cases of asyncjobs.testing.conformance.events on each store."""

from asyncjobs.testing.conformance.events import *
