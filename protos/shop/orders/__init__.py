"""The package shop.orders of the contract."""
