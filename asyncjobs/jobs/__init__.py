"""What users write against: job functions, the registry, handles and the context of a job."""
