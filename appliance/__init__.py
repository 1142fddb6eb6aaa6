"""An on-prem, air-gapped inference appliance."""

__version__ = "0.1.0"
