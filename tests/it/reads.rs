//! What the admin reads: entities, timelines, events, reprocessing.
