"""The package shop.notifications of the contract."""
