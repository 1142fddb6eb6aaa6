"""What stands between a socket and the application: bounds on time and room, and strict HTTP.

    accept ─► Door (with TLS: a handshake, in time) ─► Connection (a valid head, in time) ─► application
                └─ Crowd: how many, in all and from one address

uvicorn keeps a connection open for as long as its client likes, and its parser takes more than one reading of
some requests. What does not pass here never reaches the application, and is on the record all the same.
"""
