"""The cases of asyncjobs.testing.conformance.suspects on each store."""

from asyncjobs.testing.conformance.suspects import *
