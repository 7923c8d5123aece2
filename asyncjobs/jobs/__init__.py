"""What users write against: job functions, and what is made of them."""
