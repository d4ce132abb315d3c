//! What is bounded, and how overload is answered.
