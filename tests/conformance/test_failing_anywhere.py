"""The cases of asyncjobs.testing.conformance.failing_anywhere on each store."""

from asyncjobs.testing.conformance.failing_anywhere import *
