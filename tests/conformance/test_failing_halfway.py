"""The cases of asyncjobs.testing.conformance.failing_halfway on each store."""

from asyncjobs.testing.conformance.failing_halfway import *
