"""The cases of asyncjobs.testing.conformance.settle on each store."""

from asyncjobs.testing.conformance.settle import *
