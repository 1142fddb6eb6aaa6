"""One worker process per model: messages, channel, process and supervisor."""
