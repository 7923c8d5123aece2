"""The cases of asyncjobs.testing.conformance.events_kept on each store."""

from asyncjobs.testing.conformance.events_kept import *
