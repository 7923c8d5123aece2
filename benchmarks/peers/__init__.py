"""One program for each queue that asyncjobs is compared with, run in an environment of its own."""
