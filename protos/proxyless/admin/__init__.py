"""The package proxyless.admin of the contract."""
