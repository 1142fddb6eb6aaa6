"""People's pages, rendered on the server: own application, own port."""
