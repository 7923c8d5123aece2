"""Other libraries' ways to call jobs, for code that moves file by file."""
