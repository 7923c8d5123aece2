"""The cases of asyncjobs.testing.conformance.barriers_beside on each store."""

from asyncjobs.testing.conformance.barriers_beside import *
