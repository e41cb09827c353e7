"""What every room uses: option parsing, errors, looking names up."""
