"""What users write against: job functions, their arguments, the registry, handles, the context."""
