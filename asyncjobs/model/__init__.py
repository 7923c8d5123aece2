"""The records that are stored of a job, each with one owner who alone knows its keys."""
