"""From the outbox to the vendors: one worker, one queue, one clock and one circuit breaker an integration."""
