"""The cases of asyncjobs.testing.conformance.letters on each store."""

from asyncjobs.testing.conformance.letters import *
