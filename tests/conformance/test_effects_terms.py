"""The cases of asyncjobs.testing.conformance.effects_terms on each store."""

from asyncjobs.testing.conformance.effects_terms import *
