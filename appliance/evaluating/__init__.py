"""Is a model good enough? The agency's own cases, put to a model: what they ask, what an answer must be, and
what came of it. Reading, checking and scoring are pure; `running` asks through a port.
"""
