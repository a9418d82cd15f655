"""Knows the products and keeps their stock."""
