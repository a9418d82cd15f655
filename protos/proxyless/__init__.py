"""The package proxyless of the contract."""
