"""The cases of asyncjobs.testing.conformance.known_dead on each store."""

from asyncjobs.testing.conformance.known_dead import *
