"""What every room uses: option parsing, messages, errors, atomic writes, padding, hardware."""
