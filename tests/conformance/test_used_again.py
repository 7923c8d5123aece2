"""The cases of asyncjobs.testing.conformance.used_again on each store."""

from asyncjobs.testing.conformance.used_again import *
