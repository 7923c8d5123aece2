"""Every code block of the README and of docs/ runs; see page.py for how."""
