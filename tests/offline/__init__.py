"""Bare hosts without a network: an appliance's whole life from a signed bundle (`make test-offline`)."""
