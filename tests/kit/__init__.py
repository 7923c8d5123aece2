"""What tests with processes are made of, whoever starts them."""
