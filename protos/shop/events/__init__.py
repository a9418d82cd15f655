"""The package shop.events of the contract."""
