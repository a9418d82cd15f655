"""The package shop.payments of the contract."""
