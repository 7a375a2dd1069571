"""What predictions rest on: attributions and tests of them."""
