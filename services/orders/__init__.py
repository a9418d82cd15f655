"""Takes orders and sees each of them through to its end."""
