"""One worker process per model: messages, channel, client and supervisor."""
