//! Once in: one source and idempotency key is accepted once within its window.
